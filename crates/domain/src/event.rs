//! What happens in a store by itself, beside the answers to those who ask: for the log and the metrics.

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

/// Something that an operator may want to know.
#[derive(Clone, Debug)]
pub enum StoreEvent {
    /// A transaction removed expired messages or keys.
    Expired {
        /// Messages.
        messages: u64,
        /// Keys.
        keys: u64,
    },
    /// All that had expired is removed.
    Purged {
        /// Messages that were removed.
        messages: u64,
        /// Keys that were removed.
        keys: u64,
        /// From when it was asked for to the last one.
        took: Duration,
    },
    /// Another process deleted messages, as an operator wanted.
    Deleted {
        /// Messages.
        messages: u64,
    },
    /// The clock is not where it should be after its last reading: nothing expires until it is, or has gone on for
    /// a day.
    ClockJumped {
        /// Its last reading.
        from: Timestamp,
        /// What it says.
        to: Timestamp,
    },
    /// After a jump, or when it was read for the first time, the clock has gone on for a day: it is trusted again.
    ClockSettled,
    /// What is done while no message waits has failed: removing what has expired, ranking the senders. The next
    /// commit goes on with it.
    ChoresFailed(StoreError),
    /// A start is at work, and not done yet.
    StartGoesOn,
    /// The index of texts does not fit, or is damaged, and is made anew.
    SearchIndexRebuilt {
        /// What is wrong with it.
        why: String,
    },
}
