//! Messages that are kept no longer, and keys: some hundred at a time, with whatever else is committed.
//!
//! Messages expire in order of arrival, and only those that are indexed. Their keys stay in the ledger until
//! these expire, too, a segment at a time. SQLite uses the space again.

use std::collections::BTreeMap;

use domain::time::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use super::key_filter::{KeyFilter, segment_of};
use super::sender_counts::TailSenders;
use super::time_counts::TimeCounts;

/// What is kept no longer.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// Messages that arrived before this; but not one that arrived after a message that is kept.
    pub messages_before: Timestamp,
    /// Keys of expired messages, if all messages of their segment arrived before this.
    pub keys_before: Option<Timestamp>,
}

struct Expired {
    seq: i64,
    sender: String,
    ts_us: i64,
    ts_finer: String,
    message_id: String,
}

/// Removes up to `n_max` messages that have expired and are indexed; whether there was any. Then there is no ranking.
pub(super) fn expire_messages(
    tx: &Transaction<'_>,
    senders: &mut TailSenders,
    before: Timestamp,
    n_max: usize,
) -> rusqlite::Result<bool> {
    let expired = oldest(tx, before, n_max)?;
    let Some(last) = expired.last() else {
        return Ok(false);
    };
    let purged_seq = last.seq;
    for Expired { seq, sender, ts_us, ts_finer, message_id } in &expired {
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
    }
    TimeCounts::of(expired.iter().map(|e| e.ts_us)).subtract(tx)?;
    let n_messages = expired.len();
    let n_senders = subtract_senders(tx, senders, &expired)?;
    // Counts of senders fall now, so that any sender may be among the busiest: that is found out at the end.
    tx.prepare_cached("DELETE FROM top_senders")?.execute([])?;
    tx.prepare_cached(
        "UPDATE totals SET message_count = message_count - ?1, sender_count = sender_count - ?2, \
                purged_seq = ?3, is_ranked = 0",
    )?
    .execute(params![n_messages, n_senders, purged_seq])?;
    Ok(true)
}

fn oldest(tx: &Transaction<'_>, before: Timestamp, n_max: usize) -> rusqlite::Result<Vec<Expired>> {
    let mut oldest = tx.prepare_cached(
        "SELECT seq, sender, ts_us, ts_finer, message_id, received_at_us FROM messages \
         WHERE seq > (SELECT purged_seq FROM totals) AND seq <= (SELECT indexed_seq FROM totals) \
         ORDER BY seq LIMIT ?1",
    )?;
    let mut rows = oldest.query([n_max])?;
    let mut expired = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(5)? >= before.as_micros() {
            break;
        }
        expired.push(Expired {
            seq: row.get(0)?,
            sender: row.get(1)?,
            ts_us: row.get(2)?,
            ts_finer: row.get(3)?,
            message_id: row.get(4)?,
        });
    }
    Ok(expired)
}

/// Returns how many of the senders have no messages any more.
fn subtract_senders(
    tx: &Transaction<'_>,
    senders: &mut TailSenders,
    expired: &[Expired],
) -> rusqlite::Result<usize> {
    let mut per_sender: BTreeMap<&str, u64> = BTreeMap::new();
    for Expired { sender, .. } in expired {
        *per_sender.entry(sender).or_default() += 1;
    }
    let mut n_gone = 0;
    for (sender, n) in per_sender {
        n_gone += usize::from(senders.subtract(tx, sender, n)?);
    }
    Ok(n_gone)
}

/// Removes up to `n_max` keys that have expired; whether there was any.
pub(super) fn expire_keys(
    tx: &Transaction<'_>,
    filter: &mut KeyFilter,
    expiry: Expiry,
    n_max: usize,
) -> rusqlite::Result<bool> {
    let Some(before) = expiry.keys_before else {
        return Ok(false);
    };
    let oldest: Option<i64> = tx
        .prepare_cached(
            "SELECT segment FROM segments WHERE segment < (SELECT (purged_seq + 1) >> 16 FROM totals) \
                AND last_received_at_us < ?1 ORDER BY segment LIMIT 1",
        )?
        .query_row([before.as_micros()], |row| row.get(0))
        .optional()?;
    let Some(segment) = oldest else {
        return Ok(false);
    };
    let n_keys = tx
        .prepare_cached(
            "DELETE FROM message_keys WHERE segment = ?1 AND key IN \
                (SELECT key FROM message_keys WHERE segment = ?1 ORDER BY key LIMIT ?2)",
        )?
        .execute(params![segment, n_max])?;
    if n_keys < n_max {
        tx.execute("DELETE FROM segments WHERE segment = ?1", [segment])?;
        filter.remove(segment);
    }
    Ok(true)
}
