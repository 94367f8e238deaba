//! Port: a store that takes each message exactly once.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::message::NewMessage;
use crate::signature::BodyDigest;

/// Accepts messages, each exactly once per (source, message id).
#[async_trait]
pub trait MessageStore: Send + Sync {
    /// Appends messages, atomically: all or none.
    ///
    /// * Resolves only when the answer would survive a crash of process, kernel and power.
    /// * Answers in the order of `messages`, one each.
    /// * Of all calls with one key, at most one gets [`Appended::Stored`]; none only after one that failed with
    ///   [`Unknown`](StoreErrorKind::Unknown). Two messages with one key in one append count as two calls. A later message
    ///   never changes a stored one.
    /// * A [`MessageQuery`](crate::query::MessageQuery) call that starts later sees it.
    /// * Dropping the future does not cancel the write.
    /// * Appending nothing flushes all the same, and so tells whether the store can write.
    ///
    /// # Errors
    /// [`StoreErrorKind`] says what is known and what the caller may do.
    async fn append(&self, messages: Vec<NewMessage>) -> Result<Vec<Appended>, StoreError>;
}

/// The place of a message in the order of arrival: rising, from 1, gaps allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub i64);

/// Outcome of one appended message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is the first with its key, and is on disk.
    Stored(Seq),
    /// Its key was there already; what is stored is untouched.
    Existing {
        /// The first message's place.
        seq: Seq,
        /// The first message's body, to tell a repeat from a conflict; `None` if the message was kept no
        /// longer, and only its key is.
        digest: Option<BodyDigest>,
    },
}

/// Kind of a failure: what is known, and what the caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Nothing was stored: a queue or pool is full. Try again soon.
    Busy,
    /// Nothing was stored: the store does not work now (disk full, I/O error). Try again later.
    Unavailable,
    /// Nobody can tell whether it was stored. Sending it again is safe, and settles it.
    Unknown,
    /// Nothing was stored: a bug or a damaged file. Trying again will hardly help.
    Fault,
}

/// A failure below a port.
#[derive(Clone, Debug)]
pub struct StoreError {
    /// Kind of the failure.
    pub kind: StoreErrorKind,
    /// Operation that failed, for the operator: `append messages`.
    pub operation: &'static str,
    /// Cause.
    pub source: Arc<dyn Error + Send + Sync>,
}

impl StoreError {
    /// Returns a failure whose cause is a text.
    #[must_use]
    pub fn new(kind: StoreErrorKind, operation: &'static str, why: impl Into<String>) -> Self {
        let why: Box<dyn Error + Send + Sync> = why.into().into();
        Self { kind, operation, source: Arc::from(why) }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.operation, self.source)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}
