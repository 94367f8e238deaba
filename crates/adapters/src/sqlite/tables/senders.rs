//! Table `senders`: how many indexed messages each sender has.
//!
//! A sorted run writes the counts of its messages beside the counts from before it. So they count from the moment that the
//! run is published, and a run that is begun again after a crash overwrites the counts that it left.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::sqlite::tables::top_senders::keep_busiest;

/// Senders that are compared at a time to find the busiest: many for each that is kept.
const CANDIDATES_MAX: usize = 1000;

/// SQL: the count of a row, as of what is indexed.
pub(crate) const INDEXED_COUNT: &str =
    "message_count + iif(run_seq <= (SELECT indexed_seq FROM totals), run_message_count, 0)";

/// Returns how many indexed messages a sender has.
pub(crate) fn count_indexed(db: &Connection, sender: &str) -> rusqlite::Result<u64> {
    let count = db
        .prepare_cached(&format!("SELECT {INDEXED_COUNT} FROM senders WHERE sender = ?1"))?
        .query_row([sender], |row| row.get(0))
        .optional()?;
    Ok(count.unwrap_or(0))
}

/// Writes how many messages a sender has in the run from `indexed_seq` to `to_seq`.
pub(crate) fn write_of_run(
    tx: &Transaction<'_>,
    (sender, n_messages): (&str, usize),
    indexed_seq: i64,
    to_seq: i64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO senders (sender, message_count, run_seq, run_message_count) VALUES (?1, 0, ?3, ?2) \
         ON CONFLICT (sender) DO UPDATE SET \
            message_count = message_count + iif(run_seq <= ?4, run_message_count, 0), \
            run_seq = excluded.run_seq, run_message_count = excluded.run_message_count",
    )?
    .execute(params![sender, n_messages, to_seq, indexed_seq])?;
    Ok(())
}

/// Takes away indexed messages of a sender; returns true if the sender has none in the table any more.
pub(crate) fn subtract_indexed(
    tx: &Transaction<'_>,
    sender: &str,
    n_messages: u64,
) -> rusqlite::Result<bool> {
    tx.prepare_cached(&format!(
        "UPDATE senders SET message_count = {INDEXED_COUNT} - ?2, \
                run_message_count = iif(run_seq <= (SELECT indexed_seq FROM totals), 0, run_message_count) \
         WHERE sender = ?1"
    ))?
    .execute(params![sender, n_messages])?;
    let n_gone = tx
        .prepare_cached(
            "DELETE FROM senders WHERE sender = ?1 AND message_count = 0 AND run_message_count = 0",
        )?
        .execute([sender])?;
    Ok(n_gone > 0)
}

/// Takes away messages of a sender that an operator deletes; `n_indexed` of them are indexed. The counts of a run under way
/// are cleared: it is begun again.
pub(crate) fn delete(tx: &Transaction<'_>, sender: &str, n_indexed: u64) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE senders SET run_message_count = 0 WHERE sender = ?1 AND run_seq > (SELECT indexed_seq FROM totals)",
        [sender],
    )?;
    subtract_indexed(tx, sender, n_indexed).map(drop)
}

/// Returns the busiest senders: by count, most first, then by sender in byte order. It reads every sender. `in_tail` has
/// the counts of messages that are not indexed yet.
pub(crate) fn busiest(
    tx: &Transaction<'_>,
    mut in_tail: HashMap<&str, u64>,
) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut busiest = Vec::new();
    let mut keep = |sender: String, count: u64| {
        busiest.push((sender, count));
        if busiest.len() == CANDIDATES_MAX {
            keep_busiest(&mut busiest);
        }
    };
    let mut senders = tx.prepare_cached(&format!("SELECT sender, {INDEXED_COUNT} FROM senders"))?;
    let mut rows = senders.query([])?;
    while let Some(row) = rows.next()? {
        let sender: String = row.get(0)?;
        let count = row.get::<_, u64>(1)? + in_tail.remove(sender.as_str()).unwrap_or(0);
        if count > 0 {
            keep(sender, count);
        }
    }
    for (sender, count) in in_tail {
        keep(sender.to_owned(), count);
    }
    keep_busiest(&mut busiest);
    Ok(busiest)
}

/// Returns the next `n_max` senders after one, in byte order, with the counts of their indexed messages.
pub(crate) fn after(
    tx: &Transaction<'_>,
    sender: &str,
    n_max: usize,
) -> rusqlite::Result<Vec<(String, u64)>> {
    tx.prepare_cached(&format!(
        "SELECT sender, {INDEXED_COUNT} FROM senders WHERE sender > ?1 ORDER BY sender LIMIT ?2"
    ))?
    .query_map(params![sender, n_max], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}
