//! The SQL function by which queries compare texts.

use domain::text_query::TextQuery;
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;

/// Registers the SQL function `text_contains(text, folded)`: [`TextQuery::matches`]; null contains nothing.
pub(crate) fn register(db: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    db.create_scalar_function("text_contains", 2, flags, |ctx| {
        let query = ctx.get_or_create_aux(1, |folded| {
            folded.as_str().map(|folded| TextQuery::from_folded(folded.to_owned()))
        })?;
        match ctx.get_raw(0) {
            ValueRef::Null => Ok(false),
            text => Ok(query.matches(text.as_str()?)),
        }
    })
}
