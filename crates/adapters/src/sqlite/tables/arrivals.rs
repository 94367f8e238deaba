//! Table `arrivals`: notes of the last place that was taken at a time, by a clock that was trusted then.

use std::time::Duration;

use rusqlite::{Transaction, params};

/// Rows that are read to make notes for messages that an older version stored.
const SAMPLES_MAX: i64 = 10_000;

/// Returns true if there is no note.
pub(crate) fn is_empty(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    Ok(!tx.prepare("SELECT 1 FROM arrivals")?.exists([])?)
}

/// Notes that this place was reached by now. Of two notes of one place the first one holds.
pub(crate) fn insert(tx: &Transaction<'_>, seq: i64, now_us: i64) -> rusqlite::Result<()> {
    tx.execute("INSERT OR IGNORE INTO arrivals (seq, at_us) VALUES (?1, ?2)", [seq, now_us]).map(drop)
}

/// Moves all notes by a time that the clock jumped over, which has not passed.
pub(crate) fn shift(tx: &Transaction<'_>, jump_us: i64) -> rusqlite::Result<()> {
    tx.execute("UPDATE arrivals SET at_us = at_us + ?1", [jump_us]).map(drop)
}

/// Returns the last place that had been reached this long ago; 0 if there is none.
pub(crate) fn reached_before(tx: &Transaction<'_>, now_us: i64, ago: Duration) -> rusqlite::Result<i64> {
    let ago_us = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
    tx.query_row(
        "SELECT coalesce(max(seq), 0) FROM arrivals WHERE at_us <= ?1",
        [now_us.saturating_sub(ago_us)],
        |row| row.get(0),
    )
}

/// Removes the notes of places before this one.
pub(crate) fn remove_before(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM arrivals WHERE seq < ?1", [seq]).map(drop)
}

/// Makes notes from the stamps of messages up to a place, which an older version stored. A stamp from the future tells
/// nothing.
pub(crate) fn derive(tx: &Transaction<'_>, stamped_seq: i64, now_us: i64) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO arrivals (seq, at_us) \
         WITH RECURSIVE place(seq) AS \
            (SELECT purged_seq + 1 FROM totals UNION ALL SELECT seq + 1 + ?1 / ?2 FROM place WHERE seq < ?1) \
         SELECT seq, max(received_at_us) OVER (ORDER BY seq) FROM place JOIN messages USING (seq) \
         WHERE seq <= ?1 AND received_at_us <= ?3",
        params![stamped_seq, SAMPLES_MAX, now_us],
    )
    .map(drop)
}
