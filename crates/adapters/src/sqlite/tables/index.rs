//! An index of messages, as sorted runs write it, and expiry and deletion remove from it.

use rusqlite::Transaction;

use crate::sqlite::tables::entry::{Entry, Position, Stretch};
use crate::sqlite::tables::messages::MessageRow;

/// An index: a table with one row for each indexed message.
#[derive(Clone, Copy)]
pub(crate) struct Index {
    /// Sorts messages into the order of the table; equal ones keep their order.
    pub(crate) sort: fn(&mut [Position], &Stretch),
    /// Inserts the rows of these messages, but for those that are there: a run that a crash cut off is begun again.
    pub(crate) insert: fn(&Transaction<'_>, &[&Entry]) -> rusqlite::Result<()>,
    /// Removes the row of a message, if there is one.
    pub(crate) remove: fn(&Transaction<'_>, &MessageRow) -> rusqlite::Result<()>,
}
