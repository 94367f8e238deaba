//! Port: messages that are kept for a time, and the keys that outlive them.

use std::time::Duration;

use async_trait::async_trait;

use crate::store::StoreError;
use crate::time::Timestamp;

/// Time for which messages and their keys are kept, from the arrival of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Time for which a message is kept; `None` keeps it forever.
    pub messages: Option<Duration>,
    /// Time for which its key is kept, so that a repeat is a duplicate; `None` keeps it forever.
    pub keys: Option<Duration>,
}

/// Removes messages and keys that are kept no longer.
#[async_trait]
pub trait MessageExpiry: Send + Sync {
    /// Notes that it is `now`, and begins to remove all that has expired by now.
    ///
    /// * Returns when the removal has begun; it goes on beside what comes in, until all is removed.
    /// * A key is removed only after its message.
    /// * A clock that jumps removes nothing: a store that can't trust `now` says so and waits.
    /// * To be called once an hour, also without retention: what expires later goes by these notes.
    ///
    /// # Errors
    /// As [`append`](crate::store::MessageStore::append). The store goes on with its next commit.
    async fn expire(&self, retention: Retention, now: Timestamp) -> Result<(), StoreError>;
}
