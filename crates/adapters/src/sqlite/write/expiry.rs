//! Messages that are kept no longer, and keys: some hundred at a time, with whatever else is committed.
//!
//! Messages expire in order of arrival, and only those that are indexed. Their keys stay in the ledger until
//! these expire, too, a segment at a time. SQLite uses the space again. How far to go is not decided here.

use std::collections::BTreeMap;

use domain::store::Seq;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::sqlite::tables::key_filter::{KeyFilter, segment_of};
use crate::sqlite::tables::key_filter_blocks::Archive;
use crate::sqlite::tables::senders::TailSenders;
use crate::sqlite::tables::time_counts::TimeCounts;
use crate::sqlite::tables::top_senders::Ranking;

/// What is kept no longer.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// Messages up to this place.
    pub messages_to: Seq,
    /// Keys of expired messages, of each segment that ends at this place or before.
    pub keys_to: Option<Seq>,
}

/// What of a message finds it in the indexes.
pub(crate) struct MessageRow {
    pub(crate) seq: i64,
    pub(crate) sender: String,
    pub(crate) ts_us: i64,
    pub(crate) ts_finer: String,
    pub(crate) message_id: String,
}

impl MessageRow {
    /// Removes its row, and its entries in the indexes if it has any. Counts stay.
    pub(crate) fn remove(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let Self { seq, sender, ts_us, ts_finer, message_id } = self;
        tx.prepare_cached(
            "DELETE FROM messages_by_time \
             WHERE ts_us = ?1 AND ts_finer = ?2 AND message_id = ?3 AND seq = ?4",
        )?
        .execute(params![ts_us, ts_finer, message_id, seq])?;
        tx.prepare_cached(
            "DELETE FROM messages_by_sender \
             WHERE segment = ?1 AND sender = ?2 AND ts_us = ?3 AND ts_finer = ?4 AND message_id = ?5 AND seq = ?6",
        )?
        .execute(params![segment_of(*seq), sender, ts_us, ts_finer, message_id, seq])?;
        tx.prepare_cached("DELETE FROM messages WHERE seq = ?1")?.execute([seq])?;
        Ok(())
    }
}

/// Removes up to `n_max` messages that have expired and are indexed; returns how many.
pub(crate) fn expire_messages(
    tx: &Transaction<'_>,
    senders: &mut TailSenders,
    ranking: &mut Ranking,
    to: Seq,
    n_max: usize,
) -> rusqlite::Result<usize> {
    let expired = oldest(tx, to, n_max)?;
    let Some(last) = expired.last() else {
        return Ok(0);
    };
    let purged_seq = last.seq;
    for row in &expired {
        row.remove(tx)?;
    }
    TimeCounts::of(expired.iter().map(|e| e.ts_us)).subtract(tx)?;
    let n_messages = expired.len();
    let n_senders = subtract_senders(tx, senders, ranking, &expired)?;
    tx.prepare_cached(
        "UPDATE totals SET message_count = message_count - ?1, sender_count = sender_count - ?2, purged_seq = ?3",
    )?
    .execute(params![n_messages, n_senders, purged_seq])?;
    Ok(n_messages)
}

fn oldest(tx: &Transaction<'_>, to: Seq, n_max: usize) -> rusqlite::Result<Vec<MessageRow>> {
    let expired = |row: &Row<'_>| {
        Ok(MessageRow {
            seq: row.get(0)?,
            sender: row.get(1)?,
            ts_us: row.get(2)?,
            ts_finer: row.get(3)?,
            message_id: row.get(4)?,
        })
    };
    tx.prepare_cached(
        "SELECT seq, sender, ts_us, ts_finer, message_id FROM messages \
         WHERE seq > (SELECT purged_seq FROM totals) AND seq <= (SELECT min(indexed_seq, ?1) FROM totals) \
         ORDER BY seq LIMIT ?2",
    )?
    .query_map(params![to.0, n_max], expired)?
    .collect()
}

/// Returns how many of the senders have no messages any more.
fn subtract_senders(
    tx: &Transaction<'_>,
    senders: &mut TailSenders,
    ranking: &mut Ranking,
    expired: &[MessageRow],
) -> rusqlite::Result<usize> {
    let mut per_sender: BTreeMap<&str, u64> = BTreeMap::new();
    for MessageRow { sender, .. } in expired {
        *per_sender.entry(sender).or_default() += 1;
    }
    let mut n_gone = 0;
    for (sender, n) in per_sender {
        n_gone += usize::from(senders.subtract(tx, sender, n)?);
        ranking.fall(sender, n);
    }
    ranking.tell(tx)?;
    Ok(n_gone)
}

/// Removes up to `n_max` keys that have expired, of one segment; returns how many, `None` if no segment is left to look at.
pub(crate) fn expire_keys(
    tx: &Transaction<'_>,
    (filter, archive): (&mut KeyFilter, &mut Archive),
    to: Seq,
    n_max: usize,
) -> rusqlite::Result<Option<usize>> {
    let oldest: Option<i64> = tx
        .prepare_cached(
            "SELECT segment FROM segments WHERE segment < (SELECT (min(purged_seq, ?1) + 1) >> 16 FROM totals) \
             ORDER BY segment LIMIT 1",
        )?
        .query_row([to.0], |row| row.get(0))
        .optional()?;
    let Some(segment) = oldest else {
        // Blocks of filters go when the last segment that they are of has gone.
        let first: i64 = tx.query_row(
            "SELECT coalesce((SELECT min(segment) FROM segments), (purged_seq + 1) >> 16) FROM totals",
            [],
            |row| row.get(0),
        )?;
        return Ok(archive.forget(tx, first, n_max)?.then_some(0));
    };
    let n_keys = tx
        .prepare_cached(
            "DELETE FROM message_keys WHERE segment = ?1 AND key IN \
                (SELECT key FROM message_keys WHERE segment = ?1 ORDER BY key LIMIT ?2)",
        )?
        .execute(params![segment, n_max])?;
    if n_keys < n_max {
        tx.execute("DELETE FROM segments WHERE segment = ?1", [segment])?;
        filter.remove_to(segment);
    }
    Ok(Some(n_keys))
}
