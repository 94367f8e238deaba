//! Table `sources`: the name of each source, and the number that stands for it in other tables.

use rusqlite::{OptionalExtension, Transaction};

/// Returns the number of a source, which it gets with its first message.
pub(crate) fn source_id(tx: &Transaction<'_>, name: &str) -> rusqlite::Result<i64> {
    let known = tx
        .prepare_cached("SELECT source_id FROM sources WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => tx.query_row("INSERT INTO sources (name) VALUES (?1) RETURNING source_id", [name], |row| {
            row.get(0)
        }),
    }
}

/// Returns the numbers of all sources.
pub(crate) fn all_ids(tx: &Transaction<'_>) -> rusqlite::Result<Vec<i64>> {
    tx.prepare("SELECT source_id FROM sources")?.query_map([], |row| row.get(0))?.collect()
}
