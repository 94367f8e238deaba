//! Table `segments`: each segment that is whole, with the filter of its keys.

use domain::store::Seq;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::sqlite::tables::key_filter::{COLUMN_BYTES, GROUP_BITS, KeyFilter, SEGMENT_BITS};

/// Returns the segment of a place in the order of arrival.
pub(crate) fn segment_of(seq: i64) -> i64 {
    seq >> SEGMENT_BITS
}

/// Inserts a segment that is whole.
pub(crate) fn insert(
    tx: &Transaction<'_>,
    segment: i64,
    last_received_at_us: i64,
    key_filter: &[u8],
) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO segments (segment, last_received_at_us, key_filter) VALUES (?1, ?2, ?3)")?
        .execute(params![segment, last_received_at_us, key_filter])
        .map(drop)
}

/// Adds the stored filter of a segment to `filter`; returns false if there is none that this version reads.
pub(crate) fn read_filter(filter: &mut KeyFilter, db: &Connection, segment: i64) -> rusqlite::Result<bool> {
    let mut stored = db.prepare_cached("SELECT key_filter FROM segments WHERE segment = ?1")?;
    let mut rows = stored.query([segment])?;
    match rows.next()? {
        Some(row) => Ok(filter.set_column(segment, row.get_ref(0)?.as_blob()?)),
        None => Ok(false),
    }
}

/// Returns the stored filters of a group of segments.
pub(crate) fn read_group(db: &Connection, group: i64) -> rusqlite::Result<KeyFilter> {
    let mut filter = KeyFilter::default();
    let mut columns =
        db.prepare_cached("SELECT segment, key_filter FROM segments WHERE segment >= ?1 AND segment < ?2")?;
    let mut rows = columns.query([group << GROUP_BITS, (group + 1) << GROUP_BITS])?;
    while let Some(row) = rows.next()? {
        filter.set_column(row.get(0)?, row.get_ref(1)?.as_blob()?);
    }
    Ok(filter)
}

/// Returns the segments whose filters an older version stored in another form.
pub(crate) fn with_old_filters(tx: &Transaction<'_>) -> rusqlite::Result<Vec<i64>> {
    tx.prepare("SELECT segment FROM segments WHERE length(key_filter) <> ?1")?
        .query_map([COLUMN_BYTES], |row| row.get(0))?
        .collect()
}

/// Replaces the filter of a segment.
pub(crate) fn set_filter(tx: &Transaction<'_>, segment: i64, key_filter: &[u8]) -> rusqlite::Result<()> {
    tx.execute("UPDATE segments SET key_filter = ?2 WHERE segment = ?1", params![segment, key_filter])
        .map(drop)
}

/// Returns the oldest segment whose keys have all expired, when those up to this place have.
pub(crate) fn oldest_expired(tx: &Transaction<'_>, to: Seq) -> rusqlite::Result<Option<i64>> {
    tx.prepare_cached(
        "SELECT segment FROM segments WHERE segment < (SELECT (min(purged_seq, ?1) + 1) >> ?2 FROM totals) \
         ORDER BY segment LIMIT 1",
    )?
    .query_row(params![to.0, SEGMENT_BITS], |row| row.get(0))
    .optional()
}

/// Returns the first segment that still has keys.
pub(crate) fn first(tx: &Transaction<'_>) -> rusqlite::Result<i64> {
    tx.query_row(
        "SELECT coalesce((SELECT min(segment) FROM segments), (purged_seq + 1) >> ?1) FROM totals",
        [SEGMENT_BITS],
        |row| row.get(0),
    )
}

/// Returns the last segment that is whole; 0 if there is none.
pub(crate) fn last(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT coalesce(max(segment), 0) FROM segments", [], |row| row.get(0))
}

/// Removes a segment that has no keys any more.
pub(crate) fn remove(tx: &Transaction<'_>, segment: i64) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM segments WHERE segment = ?1", [segment]).map(drop)
}
