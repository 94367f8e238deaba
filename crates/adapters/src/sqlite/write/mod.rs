//! Writing: one thread commits all that waits in one transaction.

pub(crate) mod arrival_notes;
mod backlog;
pub(crate) mod expiry;
pub(crate) mod group_commit;
mod insert;
mod pending_expiry;
mod sorted_run;
mod state;
mod tail_senders;
mod top_senders;
pub(crate) mod transaction;
pub(crate) mod writer;
