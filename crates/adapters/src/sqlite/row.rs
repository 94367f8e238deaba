//! Columns as the types that they were when they were stored.

use domain::message::Rule;
use rusqlite::Row;
use rusqlite::types::Type;

/// A text column; what breaks the type's rule now was changed by another hand.
pub(super) fn parsed<T>(
    row: &Row<'_>,
    column: usize,
    parse: fn(String) -> Result<T, Rule>,
) -> rusqlite::Result<T> {
    parse(row.get(column)?)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}
