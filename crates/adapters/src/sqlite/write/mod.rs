//! Writing: one thread commits all that waits in one transaction.

pub(crate) mod expiry;
pub(crate) mod group_commit;
pub(crate) mod insert;
pub(crate) mod sorted_run;
pub(crate) mod transaction;
pub(crate) mod writer;
