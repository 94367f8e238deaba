//! Table `totals`: one row with the counts of all messages, and how far arrival, indexes and expiry have come.

use rusqlite::{Connection, Row, Transaction, params};

/// The row. Whatever else the writer remembers changes together with one of these columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Mark of the process that wrote last.
    pub(crate) writer_id: i64,
    /// Last place in the order of arrival that is taken.
    pub(crate) last_seq: i64,
    /// Last place that the indexes include.
    pub(crate) indexed_seq: i64,
    /// Last place whose message has expired.
    pub(crate) purged_seq: i64,
    pub(crate) message_count: i64,
    pub(crate) sender_count: i64,
    /// True if `top_senders` has the busiest senders.
    pub(crate) is_ranked: bool,
    /// Messages that operators have deleted, which is not expiry.
    pub(crate) deleted_count: i64,
}

impl Totals {
    pub(crate) fn read(db: &Connection) -> rusqlite::Result<Self> {
        db.prepare_cached(
            "SELECT writer_id, last_seq, indexed_seq, purged_seq, message_count, sender_count, is_ranked, deleted_count \
             FROM totals",
        )?
        .query_row([], |row| {
            Ok(Self {
                writer_id: row.get(0)?,
                last_seq: row.get(1)?,
                indexed_seq: row.get(2)?,
                purged_seq: row.get(3)?,
                message_count: row.get(4)?,
                sender_count: row.get(5)?,
                is_ranked: row.get(6)?,
                deleted_count: row.get(7)?,
            })
        })
    }
}

/// Returns the last place that is indexed, and the last that is taken.
pub(crate) fn bounds(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    db.prepare_cached("SELECT indexed_seq, last_seq FROM totals")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Returns the last place that is indexed, the last that is taken, and how many messages were deleted.
pub(crate) fn bounds_and_deleted(db: &Connection) -> rusqlite::Result<(i64, i64, i64)> {
    db.prepare_cached("SELECT indexed_seq, last_seq, deleted_count FROM totals")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}

/// Returns the last place that has expired, and the last that is taken.
pub(crate) fn purged_and_last(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    db.prepare_cached("SELECT purged_seq, last_seq FROM totals")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Returns the number of all messages.
pub(crate) fn message_count(db: &Connection) -> rusqlite::Result<u64> {
    one(db, "SELECT message_count FROM totals", |row| row.get(0))
}

/// Returns true if `top_senders` has the busiest senders.
pub(crate) fn is_ranked(db: &Connection) -> rusqlite::Result<bool> {
    one(db, "SELECT is_ranked FROM totals", |row| row.get(0))
}

fn one<T>(db: &Connection, sql: &str, get: fn(&Row<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    db.prepare_cached(sql)?.query_row([], get)
}

/// Adds messages that were stored, up to the place `last_seq`.
pub(crate) fn add_stored(
    tx: &Transaction<'_>,
    n_messages: u64,
    n_senders: u64,
    last_seq: i64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE totals SET message_count = message_count + ?1, sender_count = sender_count + ?2, last_seq = ?3",
    )?
    .execute(params![n_messages, n_senders, last_seq])
    .map(drop)
}

/// Takes away messages that have expired, up to the place `purged_seq`.
pub(crate) fn subtract_expired(
    tx: &Transaction<'_>,
    n_messages: usize,
    n_senders: usize,
    purged_seq: i64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE totals SET message_count = message_count - ?1, sender_count = sender_count - ?2, purged_seq = ?3",
    )?
    .execute(params![n_messages, n_senders, purged_seq])
    .map(drop)
}

/// Takes away messages that an operator deletes. The mark is then nobody's, so that every writer reads its state again.
pub(crate) fn subtract_deleted(
    tx: &Transaction<'_>,
    n_messages: usize,
    n_senders: usize,
) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE totals SET message_count = message_count - ?1, sender_count = sender_count - ?2, \
                deleted_count = deleted_count + ?1, writer_id = random()",
        params![n_messages, n_senders],
    )
    .map(drop)
}

/// Notes that the indexes now include messages up to this place.
pub(crate) fn set_indexed(tx: &Transaction<'_>, indexed_seq: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE totals SET indexed_seq = ?1")?.execute([indexed_seq]).map(drop)
}

/// Leaves the mark of a writer.
pub(crate) fn set_writer(tx: &Transaction<'_>, writer_id: i64) -> rusqlite::Result<()> {
    tx.execute("UPDATE totals SET writer_id = ?1", [writer_id]).map(drop)
}

/// Notes whether `top_senders` has the busiest senders.
pub(crate) fn set_ranked(tx: &Transaction<'_>, is_ranked: bool) -> rusqlite::Result<()> {
    tx.execute("UPDATE totals SET is_ranked = ?1", [is_ranked]).map(drop)
}
