//! Table `messages_by_time`: the index of messages in the order of every listing.

use domain::time::ExactTime;
use rusqlite::{OptionalExtension, Transaction, params};

use crate::sqlite::order::RowKey;
use crate::sqlite::tables::entry::{Entry, Position, Stretch};
use crate::sqlite::tables::index::Index;
use crate::sqlite::tables::messages::MessageRow;
use crate::sqlite::tables::time_counts;

/// The index, as sorted runs, expiry and deletion know it.
pub(crate) const INDEX: Index = Index { sort, insert, remove };

/// The rows, called `i`, for a selection.
pub(crate) const ROWS: &str = "messages_by_time AS i";

fn sort(positions: &mut [Position], messages: &Stretch) {
    positions.sort_by_cached_key(|position| messages.at(*position).list_key());
}

fn insert(tx: &Transaction<'_>, entries: &[&Entry]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO messages_by_time (ts_us, ts_finer, message_id, seq) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for Entry { seq, ts_us, ts_finer, message_id, .. } in entries {
        insert.execute(params![ts_us, ts_finer.as_deref().unwrap_or(""), message_id, seq])?;
    }
    Ok(())
}

fn remove(tx: &Transaction<'_>, message: &MessageRow) -> rusqlite::Result<()> {
    let MessageRow { seq, ts_us, ts_finer, message_id, .. } = message;
    tx.prepare_cached(
        "DELETE FROM messages_by_time WHERE ts_us = ?1 AND ts_finer = ?2 AND message_id = ?3 AND seq = ?4",
    )?
    .execute(params![ts_us, ts_finer, message_id, seq])
    .map(drop)
}

/// Returns how many indexed messages lie between the start of the span of level 0 that holds `since` and `since`.
pub(crate) fn count_in_span_before(
    tx: &Transaction<'_>,
    indexed_seq: i64,
    since: &ExactTime,
) -> rusqlite::Result<u64> {
    let (ts_us, finer) = (since.at().as_micros(), since.finer());
    tx.prepare_cached(
        "SELECT count(*) FROM messages_by_time WHERE seq <= ?1 AND ts_us >= ?2 AND (ts_us, ts_finer) < (?3, ?4)",
    )?
    .query_row(params![indexed_seq, time_counts::start_of_span(ts_us), ts_us, finer], |row| row.get(0))
}

/// Returns the first indexed message in order of listing.
pub(crate) fn first(tx: &Transaction<'_>, indexed_seq: i64) -> rusqlite::Result<Option<RowKey>> {
    tx.prepare_cached(
        "SELECT ts_us, ts_finer, message_id, seq FROM messages_by_time WHERE seq <= ?1 \
         ORDER BY ts_us, ts_finer, message_id, seq LIMIT 1",
    )?
    .query_row([indexed_seq], RowKey::read)
    .optional()
}

/// Returns the last indexed message in order of listing.
pub(crate) fn last(tx: &Transaction<'_>, indexed_seq: i64) -> rusqlite::Result<Option<RowKey>> {
    tx.prepare_cached(
        "SELECT ts_us, ts_finer, message_id, seq FROM messages_by_time WHERE seq <= ?1 \
         ORDER BY ts_us DESC, ts_finer DESC, message_id DESC, seq DESC LIMIT 1",
    )?
    .query_row([indexed_seq], RowKey::read)
    .optional()
}
