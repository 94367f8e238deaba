//! What is stored, in numbers that are kept as messages come in.

use domain::message::{PhoneNumber, SentAt};
use domain::query::{Stats, TOP_SENDERS_MAX};
use rusqlite::{OptionalExtension, Transaction};

use super::row::parsed;

pub(super) fn stats(tx: &Transaction<'_>) -> rusqlite::Result<Stats> {
    let (total_messages, senders_count) = tx
        .prepare_cached("SELECT message_count, sender_count FROM totals")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // While counts fall, which is when messages expire, there is no ranking to be read.
    let is_ranked: bool =
        tx.prepare_cached("SELECT is_ranked FROM totals")?.query_row([], |row| row.get(0))?;
    let ranking = if is_ranked { "top_senders" } else { "senders" };
    let top_senders = tx
        .prepare_cached(&format!(
            "SELECT sender, message_count FROM {ranking} ORDER BY message_count DESC, sender LIMIT ?1"
        ))?
        .query_map([TOP_SENDERS_MAX], |row| Ok((parsed(row, 0, PhoneNumber::parse)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Stats {
        total_messages,
        senders_count,
        top_senders,
        first_message_ts: extreme(tx, "ts_us, ts_finer, message_id, seq")?,
        last_message_ts: extreme(tx, "ts_us DESC, ts_finer DESC, message_id DESC, seq DESC")?,
    })
}

/// `ts` of the first message in this order: of the indexed ones, or of the tail.
fn extreme(tx: &Transaction<'_>, order: &str) -> rusqlite::Result<Option<SentAt>> {
    tx.prepare_cached(&format!(
        "WITH bounds AS MATERIALIZED (SELECT indexed_seq FROM totals), \
              indexed AS (SELECT * FROM messages_by_time WHERE seq <= (SELECT indexed_seq FROM bounds) \
                          ORDER BY {order} LIMIT 1), \
              tail AS (SELECT ts_us, ts_finer, message_id, seq FROM messages \
                       WHERE seq > (SELECT indexed_seq FROM bounds) ORDER BY {order} LIMIT 1) \
         SELECT (SELECT ts FROM messages WHERE seq = both.seq) \
         FROM (SELECT * FROM indexed UNION ALL SELECT * FROM tail) AS both ORDER BY {order} LIMIT 1"
    ))?
    .query_row([], |row| parsed(row, 0, SentAt::parse))
    .optional()
}
