//! Columns as the types that they were when they were stored.

use std::cmp::Ordering;

use domain::message::Rule;
use rusqlite::Row;
use rusqlite::types::Type;

/// The text of a column; what breaks the type's rule now was changed by another hand.
pub(super) fn parse<T>(
    column: usize,
    text: String,
    parse: fn(String) -> Result<T, Rule>,
) -> rusqlite::Result<T> {
    parse(text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// A text column.
pub(super) fn parsed<T>(
    row: &Row<'_>,
    column: usize,
    parse: fn(String) -> Result<T, Rule>,
) -> rusqlite::Result<T> {
    self::parse(column, row.get(column)?, parse)
}

/// A place in the order of every listing: time, the digits past its microseconds, message id, arrival.
///
/// There are hardly ever such digits, and to compare two empty texts takes longer than all the rest.
pub(super) type Place<'a> = (i64, Option<&'a str>, &'a str, i64);

/// The digits past the microseconds, if there are any.
pub(super) fn finer(digits: &str) -> Option<&str> {
    Some(digits).filter(|digits| !digits.is_empty())
}

/// The same of a row, which goes on to the next.
pub(super) struct RowPlace {
    ts_us: i64,
    ts_finer: String,
    message_id: String,
    pub(super) seq: i64,
}

impl RowPlace {
    /// The columns of a row that has no others.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { ts_us: row.get(0)?, ts_finer: row.get(1)?, message_id: row.get(2)?, seq: row.get(3)? })
    }

    /// The same of what is not in a row.
    pub(super) fn of((ts_us, ts_finer, message_id, seq): Place<'_>) -> Self {
        Self {
            ts_us,
            ts_finer: ts_finer.unwrap_or_default().to_owned(),
            message_id: message_id.to_owned(),
            seq,
        }
    }

    pub(super) fn place(&self) -> Place<'_> {
        (self.ts_us, finer(&self.ts_finer), &self.message_id, self.seq)
    }
}

impl Ord for RowPlace {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for RowPlace {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RowPlace {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for RowPlace {}
