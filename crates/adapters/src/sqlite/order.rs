//! The order of every listing.

use std::cmp::Ordering;

use rusqlite::Row;

/// Key of a message in the order of every listing: time, the digits past its microseconds, message id, arrival.
///
/// There are hardly ever such digits, and comparing two empty texts takes longer than all the rest.
pub(crate) type ListKey<'a> = (i64, Option<&'a str>, &'a str, i64);

/// Returns the digits past the microseconds, if there are any.
pub(crate) fn finer(digits: &str) -> Option<&str> {
    Some(digits).filter(|digits| !digits.is_empty())
}

/// List key of a row, which outlives the row.
pub(crate) struct RowKey {
    ts_us: i64,
    ts_finer: String,
    message_id: String,
    pub(crate) seq: i64,
}

impl RowKey {
    /// Reads the columns of a row that has no others.
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { ts_us: row.get(0)?, ts_finer: row.get(1)?, message_id: row.get(2)?, seq: row.get(3)? })
    }

    /// Copies a list key.
    pub(crate) fn of((ts_us, ts_finer, message_id, seq): ListKey<'_>) -> Self {
        Self {
            ts_us,
            ts_finer: ts_finer.unwrap_or_default().to_owned(),
            message_id: message_id.to_owned(),
            seq,
        }
    }

    pub(crate) fn list_key(&self) -> ListKey<'_> {
        (self.ts_us, finer(&self.ts_finer), &self.message_id, self.seq)
    }
}

impl Ord for RowKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.list_key().cmp(&other.list_key())
    }
}

impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RowKey {
    fn eq(&self, other: &Self) -> bool {
        self.list_key() == other.list_key()
    }
}

impl Eq for RowKey {}
