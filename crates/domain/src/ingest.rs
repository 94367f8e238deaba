//! The whole rule of receiving a webhook, on one screen.

use std::sync::Arc;

use bytes::Bytes;

use crate::message::{MessageId, NewMessage};
use crate::payload::InvalidPayload;
use crate::signature::{InboundRequest, Refusal};
use crate::source::{Source, SourceName};
use crate::store::{Appended, MessageStore, StoreError};
use crate::time::{Clock, Timestamp};

/// Receives webhooks of any source.
pub struct Ingest {
    store: Arc<dyn MessageStore>,
    clock: Arc<dyn Clock>,
}

/// Receipt of a webhook: 200 to the sender, a log line to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Source that received it.
    pub source: SourceName,
    /// Id of the message.
    pub message_id: MessageId,
    /// Time of arrival.
    pub received_at: Timestamp,
    /// Created or duplicate.
    pub outcome: Outcome,
}

/// Outcome of a webhook: either way the message is stored, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is new.
    Created,
    /// The message was there before, and is unchanged.
    Duplicate,
}

/// Reason why nothing was received.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The source has no secret, so nothing can be verified.
    #[error("no secret is configured")]
    NoSecret,
    /// The signature is wrong; nothing in the body is believed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The signature is right, and the payload breaks rules.
    #[error(transparent)]
    Invalid(#[from] InvalidPayload),
    /// A valid message could not be stored, or may not have been.
    #[error("{error}")]
    Store {
        /// Id of the message.
        message_id: MessageId,
        /// The failure.
        error: StoreError,
    },
}

impl Ingest {
    /// Receives into `store`.
    #[must_use]
    pub fn new(store: Arc<dyn MessageStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Refuses a webhook that [`receive`](Self::receive) would refuse for its headers alone.
    ///
    /// # Errors
    /// [`IngestError::NoSecret`], [`IngestError::Refused`].
    pub fn check_headers(&self, source: &Source, headers: &[(&str, &[u8])]) -> Result<(), IngestError> {
        let verifier = source.verifier.as_ref().ok_or(IngestError::NoSecret)?;
        Ok(verifier.check_headers(headers)?)
    }

    /// Verifies, validates and stores one webhook; a receipt means that it is on disk.
    ///
    /// Dropping the future once the body was accepted does not cancel the write.
    ///
    /// # Errors
    /// [`IngestError`], each kind of it an answer of its own.
    pub async fn receive(
        &self,
        source: &Source,
        headers: &[(&str, &[u8])],
        body: Bytes,
    ) -> Result<Receipt, IngestError> {
        let now = self.clock.now();
        let verifier = source.verifier.as_ref().ok_or(IngestError::NoSecret)?;
        let verified = verifier.verify(InboundRequest { headers, body: &body }, now)?;
        let content = (source.decoder)(&body)?;

        let message_id = content.message_id.clone();
        let message = NewMessage { source: source.name.clone(), content, body, verified, received_at: now };
        let appended = match self.store.append(vec![message]).await {
            Ok(appended) => appended,
            Err(error) => return Err(IngestError::Store { message_id, error }),
        };
        let outcome = match appended[..] {
            [Appended::Stored(_)] => Outcome::Created,
            [Appended::Existing { .. }] => Outcome::Duplicate,
            _ => unreachable!("a store answers each message once, and there was one"),
        };
        Ok(Receipt { source: source.name.clone(), message_id, received_at: now, outcome })
    }
}
