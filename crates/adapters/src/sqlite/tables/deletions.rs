//! Table `deletions`: places of messages that an operator has deleted and that may still be in the text index or in a log.

use rusqlite::{Connection, Transaction, params};

/// Notes that a message was deleted.
pub(crate) fn insert(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO deletions (seq) VALUES (?1)")?.execute([seq]).map(drop)
}

/// Returns how many there are.
pub(crate) fn count(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT count(*) FROM deletions", [], |row| row.get(0))
}

/// Returns up to `n_max` of them after a place, in order.
pub(crate) fn after(db: &Connection, seq: i64, n_max: usize) -> rusqlite::Result<Vec<i64>> {
    db.prepare_cached("SELECT seq FROM deletions WHERE seq > ?1 ORDER BY seq LIMIT ?2")?
        .query_map(params![seq, n_max], |row| row.get(0))?
        .collect()
}

/// Removes these: they are gone from everywhere.
pub(crate) fn remove(tx: &Transaction<'_>, seqs: &[i64]) -> rusqlite::Result<()> {
    let mut remove = tx.prepare_cached("DELETE FROM deletions WHERE seq = ?1")?;
    for seq in seqs {
        remove.execute([seq])?;
    }
    Ok(())
}
