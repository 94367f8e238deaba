//! The tables of the database, one file each: all SQL on it, its constants and its row type.

pub(crate) mod arrivals;
pub(crate) mod key_filter;
pub(crate) mod key_filter_blocks;
pub(crate) mod senders;
pub(crate) mod time_counts;
pub(crate) mod top_senders;
