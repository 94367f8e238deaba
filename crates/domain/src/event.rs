//! Events of a store: what it does by itself, for the log and the metrics.

use std::time::Duration;

use crate::store::StoreError;
use crate::time::Timestamp;

/// One attempt to commit.
#[derive(Clone, Copy, Debug)]
pub struct CommitReport {
    /// Messages in it, repeats included.
    pub messages: usize,
    /// Time from the start of the transaction to its end.
    pub took: Duration,
    /// True if it succeeded.
    pub ok: bool,
}

/// An event that an operator may want to know of.
#[derive(Clone, Debug)]
pub enum StoreEvent {
    /// A transaction removed expired messages or keys.
    Expired {
        /// Messages.
        messages: u64,
        /// Keys.
        keys: u64,
    },
    /// Everything that had expired is removed.
    Purged {
        /// Messages that were removed.
        messages: u64,
        /// Keys that were removed.
        keys: u64,
        /// Time from the request to the last one.
        took: Duration,
    },
    /// `hookkeeper delete`, another process, has deleted messages.
    Deleted {
        /// Messages.
        messages: u64,
    },
    /// The clock jumped: nothing expires until it is set right, or has gone on for a day.
    ClockJumped {
        /// Its last reading.
        from: Timestamp,
        /// Its reading now.
        to: Timestamp,
    },
    /// The clock has gone on for a day after a jump, or after the first reading: it is trusted again.
    ClockSettled,
    /// Work that is done while no message waits has failed: removing expired messages, or ranking the senders. The next commit
    /// goes on with it.
    ChoresFailed(StoreError),
    /// A start is making progress, and is not done yet.
    StartGoesOn,
    /// The text index does not match the database, or is damaged, and is rebuilt.
    SearchIndexRebuilt {
        /// The fault of the old one.
        why: String,
    },
}
