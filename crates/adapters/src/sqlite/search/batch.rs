//! Messages on their way into the text index, and expired ones on their way out, some at a time.

use domain::text_query::fold_case;
use rusqlite::{Connection, Transaction, params};

use crate::sqlite::search::lookup::indexable;
use crate::sqlite::tables::messages;

/// Messages that are indexed in one transaction: some ten milliseconds of work. FTS5 merges the additions of transactions
/// again and again. With more messages it merges less often, but at full load a search has to read more texts.
const BATCH_MESSAGES: usize = 2_000;

/// Bytes of the texts of one transaction, for when they are long.
const BATCH_TEXT_BYTES: usize = 1 << 20;

/// Messages that are taken out in one transaction.
pub(crate) const PURGE_BATCH_MESSAGES: usize = 1_000;

/// The next messages that the text index lacks.
#[derive(Default)]
pub(crate) struct Batch {
    /// Folded texts of the messages that have one.
    texts: Vec<(i64, String)>,
    /// The last message, with the digest of its body.
    last: Option<(i64, Vec<u8>)>,
    /// True if there may be more.
    is_full: bool,
}

impl Batch {
    /// Reads the next messages at once: while somebody reads, the write-ahead log can't restart.
    pub(crate) fn read(db: &Connection, after_seq: i64) -> rusqlite::Result<Self> {
        let (mut batch, mut n_messages, mut n_bytes) = (Self::default(), 0, 0);
        messages::texts_after(db, after_seq, BATCH_MESSAGES, |seq, text, body_sha256| {
            if let Some(text) = text {
                n_bytes += text.len();
                batch.texts.push((seq, indexable(&fold_case(&String::from_utf8_lossy(text)))));
            }
            batch.last = Some((seq, body_sha256));
            n_messages += 1;
            batch.is_full = n_messages == BATCH_MESSAGES || n_bytes >= BATCH_TEXT_BYTES;
            !batch.is_full
        })?;
        Ok(batch)
    }
}

/// Indexes these messages and commits; returns true if there may be more.
pub(crate) fn index_batch(tx: Transaction<'_>, batch: Batch) -> rusqlite::Result<bool> {
    let Some((last_seq, body_sha256)) = batch.last else {
        return Ok(false);
    };
    {
        let mut insert = tx.prepare_cached("INSERT INTO texts (rowid, text) VALUES (?1, ?2)")?;
        for (seq, text) in &batch.texts {
            insert.execute(params![seq, text])?;
        }
    }
    tx.execute("UPDATE progress SET searched_seq = ?1, body_sha256 = ?2", params![last_seq, body_sha256])?;
    tx.commit()?;
    Ok(batch.is_full)
}

/// Takes out the next messages that have expired; returns by how many places of the order of arrival it went on.
pub(crate) fn purge_batch(index: &mut Connection, expired_seq: i64) -> rusqlite::Result<usize> {
    let tx = index.transaction()?;
    let (purged_seq, searched_seq): (i64, i64) =
        tx.query_row("SELECT purged_seq, searched_seq FROM progress", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let n_places =
        usize::try_from(expired_seq.min(searched_seq) - purged_seq).unwrap_or(0).min(PURGE_BATCH_MESSAGES);
    let mut delete = tx.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?;
    for seq in (purged_seq + 1..).take(n_places) {
        delete.execute([seq])?;
    }
    drop(delete);
    if n_places > 0 {
        tx.execute("UPDATE progress SET purged_seq = purged_seq + ?1", [n_places])?;
    }
    tx.commit()?;
    Ok(n_places)
}
