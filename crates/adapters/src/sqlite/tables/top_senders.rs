//! Table `top_senders`: the busiest senders with the counts of their messages, while `totals.is_ranked`.

use domain::query::TOP_SENDERS_MAX;
use rusqlite::{Connection, Transaction, params};

use crate::sqlite::tables::totals;

/// Returns the busiest senders, the busiest first; `None` while they are not known.
pub(crate) fn read(db: &Connection) -> rusqlite::Result<Option<Vec<(String, u64)>>> {
    if !totals::is_ranked(db)? {
        return Ok(None);
    }
    let mut senders: Vec<(String, u64)> = db
        .prepare_cached("SELECT sender, message_count FROM top_senders")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    keep_busiest(&mut senders);
    Ok(Some(senders))
}

/// Sets the count of a sender.
pub(crate) fn set(tx: &Transaction<'_>, sender: &str, message_count: u64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO top_senders (sender, message_count) VALUES (?1, ?2) \
         ON CONFLICT (sender) DO UPDATE SET message_count = excluded.message_count",
    )?
    .execute(params![sender, message_count])
    .map(drop)
}

/// Removes a sender; returns true if it was there.
pub(crate) fn remove(tx: &Transaction<'_>, sender: &str) -> rusqlite::Result<bool> {
    Ok(tx.prepare_cached("DELETE FROM top_senders WHERE sender = ?1")?.execute([sender])? > 0)
}

/// Removes all senders.
pub(crate) fn clear(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM top_senders", []).map(drop)
}

/// Keeps the busiest of these: by count, most first, then by sender in byte order.
pub(crate) fn keep_busiest(senders: &mut Vec<(String, u64)>) {
    senders.sort_unstable_by(|(a, n_a), (b, n_b)| n_b.cmp(n_a).then_with(|| a.cmp(b)));
    senders.truncate(TOP_SENDERS_MAX.into());
}
