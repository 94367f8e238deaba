//! Columns as the types that they were when they were stored.

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

    pub(super) fn place(&self) -> Place<'_> {
        (self.ts_us, finer(&self.ts_finer), &self.message_id, self.seq)
    }
}
