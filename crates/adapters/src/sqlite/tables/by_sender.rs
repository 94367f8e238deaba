//! Table `messages_by_sender`: the index of messages by sender, segment by segment.

use rusqlite::{Transaction, params};

use crate::sqlite::tables::entry::{Entry, Position, Stretch};
use crate::sqlite::tables::index::Index;
use crate::sqlite::tables::messages::MessageRow;
use crate::sqlite::tables::segments::segment_of;

/// The index, as sorted runs, expiry and deletion know it.
pub(crate) const INDEX: Index = Index { sort, insert, remove };

/// The rows, called `i`, for a selection: segment by segment. Each is in order, so that only a page's worth of each is
/// read. Parameters: the bits of a segment, the last segment.
pub(crate) const ROWS: &str = "(WITH RECURSIVE s(segment) AS \
        (SELECT (SELECT purged_seq >> ? FROM totals) UNION ALL SELECT segment + 1 FROM s WHERE segment < ?) \
     SELECT segment FROM s) AS s \
     CROSS JOIN messages_by_sender AS i ON i.segment = s.segment";

/// The entries of each sender stay in the order that they came in.
fn sort(positions: &mut [Position], messages: &Stretch) {
    positions.sort_by_cached_key(|position| &messages.at(*position).sender);
}

fn insert(tx: &Transaction<'_>, entries: &[&Entry]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO messages_by_sender (segment, sender, ts_us, ts_finer, message_id, seq) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for Entry { seq, sender, ts_us, ts_finer, message_id, .. } in entries {
        let ts_finer = ts_finer.as_deref().unwrap_or("");
        insert.execute(params![segment_of(*seq), sender, ts_us, ts_finer, message_id, seq])?;
    }
    Ok(())
}

fn remove(tx: &Transaction<'_>, message: &MessageRow) -> rusqlite::Result<()> {
    let MessageRow { seq, sender, ts_us, ts_finer, message_id } = message;
    tx.prepare_cached(
        "DELETE FROM messages_by_sender \
         WHERE segment = ?1 AND sender = ?2 AND ts_us = ?3 AND ts_finer = ?4 AND message_id = ?5 AND seq = ?6",
    )?
    .execute(params![segment_of(*seq), sender, ts_us, ts_finer, message_id, seq])
    .map(drop)
}

/// Returns the places of up to `n_max` indexed messages of a sender in a segment.
pub(crate) fn seqs(
    tx: &Transaction<'_>,
    segment: i64,
    sender: &str,
    n_max: usize,
) -> rusqlite::Result<Vec<i64>> {
    tx.prepare_cached(
        "SELECT seq FROM messages_by_sender WHERE segment = ?1 AND sender = ?2 \
            AND seq <= (SELECT indexed_seq FROM totals) LIMIT ?3",
    )?
    .query_map(params![segment, sender, n_max], |row| row.get(0))?
    .collect()
}
