//! Marks that a handler leaves on its request, for the log line and the metrics.

use domain::ingest::{Outcome, Receipt};
use domain::message::MessageId;
use domain::source::SourceName;
use domain::time::Timestamp;

use crate::error::ApiError;
use crate::webhook_result::WebhookResult;

/// Mark of a webhook: its line has `message_id`, `dup` and `result`, and it is counted by result.
pub(crate) struct Webhook {
    /// Id of the message; `None` until its signature is verified.
    pub(crate) message_id: Option<MessageId>,
    /// Result of the webhook.
    pub(crate) result: WebhookResult,
    /// Source and arrival of a message that is new.
    pub(crate) stored: Option<(SourceName, Timestamp)>,
}

/// Mark of a probe, which comes every few seconds: its line is logged at DEBUG if all is well.
pub(crate) struct Probe;

impl From<&Receipt> for Webhook {
    fn from(receipt: &Receipt) -> Self {
        let is_new = receipt.outcome == Outcome::Created;
        Self {
            message_id: Some(receipt.message_id.clone()),
            result: receipt.outcome.into(),
            stored: is_new.then(|| (receipt.source.clone(), receipt.received_at)),
        }
    }
}

impl From<&ApiError> for Webhook {
    fn from(error: &ApiError) -> Self {
        Self { message_id: error.message_id().cloned(), result: error.webhook_result(), stored: None }
    }
}
