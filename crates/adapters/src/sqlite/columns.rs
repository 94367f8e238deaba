//! Columns as the types that they were when they were stored.

use std::error::Error;

use domain::message::Rule;
use domain::source::SourceName;
use rusqlite::Row;
use rusqlite::types::Type;

/// Parses the text of a column. Text that breaks the rule of its type was changed by another hand.
pub(crate) fn parse<T>(
    column: usize,
    text: String,
    parse: fn(String) -> Result<T, Rule>,
) -> rusqlite::Result<T> {
    parse(text).map_err(|rule| unfit(column, rule))
}

/// Parses a text column.
pub(crate) fn parsed<T>(
    row: &Row<'_>,
    column: usize,
    parse: fn(String) -> Result<T, Rule>,
) -> rusqlite::Result<T> {
    self::parse(column, row.get(column)?, parse)
}

/// Parses a column with the name of a source.
pub(crate) fn source_name(row: &Row<'_>, column: usize) -> rusqlite::Result<SourceName> {
    SourceName::parse(row.get_ref(column)?.as_str()?).map_err(|error| unfit(column, error))
}

fn unfit(column: usize, error: impl Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
