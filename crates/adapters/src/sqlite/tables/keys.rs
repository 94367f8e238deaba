//! Table `message_keys`: the ledger of keys. A key outlives its message, so that a repeat stays a duplicate.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::digest::sha256;
use crate::sqlite::tables::entry::Entry;
use crate::sqlite::tables::key_filter::{Key, KeyFilter};
use crate::sqlite::tables::segments::segment_of;

/// Returns the key of a message.
pub(crate) fn key(source_id: i64, message_id: &str) -> Key {
    let digest = sha256(&[&source_id.to_be_bytes(), message_id.as_bytes()].concat());
    std::array::from_fn(|i| digest.0[i])
}

const INSERT: &str = "INSERT OR IGNORE INTO message_keys (segment, key, seq) VALUES (?1, ?2, ?3)";

/// Inserts the keys of these messages, and adds them to the filter.
pub(crate) fn insert(
    tx: &Transaction<'_>,
    filter: &mut KeyFilter,
    entries: &[&Entry],
) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached(INSERT)?;
    for Entry { seq, key, .. } in entries {
        let segment = segment_of(*seq);
        insert.execute(params![segment, key, seq])?;
        filter.insert(segment, key);
    }
    Ok(())
}

/// Inserts one key if it is not there.
pub(crate) fn insert_one(tx: &Transaction<'_>, key: &Key, seq: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(INSERT)?.execute(params![segment_of(seq), key, seq]).map(drop)
}

/// Returns the place of the message with this key in a segment.
pub(crate) fn find(tx: &Transaction<'_>, segment: i64, key: &Key) -> rusqlite::Result<Option<i64>> {
    let mut find = tx.prepare_cached("SELECT seq FROM message_keys WHERE segment = ?1 AND key = ?2")?;
    let mut rows = find.query(params![segment, key])?;
    rows.next()?.map(|row| row.get(0)).transpose()
}

/// Returns the place of an indexed message in a segment, if it is still stored under this key and id.
pub(crate) fn find_message(
    tx: &Transaction<'_>,
    segment: i64,
    key: &Key,
    message_id: &str,
) -> rusqlite::Result<Option<i64>> {
    tx.prepare_cached(
        "SELECT seq FROM message_keys JOIN messages USING (seq) \
         WHERE segment = ?1 AND key = ?2 AND message_id = ?3 AND seq <= (SELECT indexed_seq FROM totals)",
    )?
    .query_row(params![segment, key, message_id], |row| row.get(0))
    .optional()
}

/// Adds all keys of a segment to the filter.
pub(crate) fn read_into(filter: &mut KeyFilter, db: &Connection, segment: i64) -> rusqlite::Result<()> {
    let mut keys = db.prepare_cached("SELECT key FROM message_keys WHERE segment = ?1")?;
    let mut rows = keys.query([segment])?;
    while let Some(row) = rows.next()? {
        filter.insert(segment, &row.get(0)?);
    }
    Ok(())
}

/// Removes up to `n_max` keys of a segment; returns how many.
pub(crate) fn remove(tx: &Transaction<'_>, segment: i64, n_max: usize) -> rusqlite::Result<usize> {
    tx.prepare_cached(
        "DELETE FROM message_keys WHERE segment = ?1 AND key IN \
            (SELECT key FROM message_keys WHERE segment = ?1 ORDER BY key LIMIT ?2)",
    )?
    .execute(params![segment, n_max])
}
