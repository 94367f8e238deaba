//! The tables of the database, one file each: all SQL on it, its constants and its row type.

pub(crate) mod arrivals;
pub(crate) mod by_sender;
pub(crate) mod by_time;
pub(crate) mod clock;
pub(crate) mod deletions;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod key_filter;
pub(crate) mod key_filter_blocks;
pub(crate) mod keys;
pub(crate) mod messages;
pub(crate) mod segments;
pub(crate) mod senders;
pub(crate) mod sources;
pub(crate) mod time_counts;
pub(crate) mod top_senders;
pub(crate) mod totals;

use index::Index;

/// The indexes of messages. Sorted runs write them in this order, each sorted from the order that the one before it left;
/// `by_sender` stays last, because the counts of senders are made from its order.
pub(crate) const INDEXES: [Index; 2] = [by_time::INDEX, by_sender::INDEX];
