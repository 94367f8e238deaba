//! Deletion: an operator removes one message, or all messages of a sender, while a server writes or without one.
//!
//! A message leaves its table, its indexes, the counts and the text index, and its bytes are overwritten (`secure_delete`).
//! Its key stays in the ledger: a repeat is a duplicate. The mark in `totals` tells a writer in another process to read its
//! state again; `totals.deleted_count` tells a query that the tail in memory is not that of its snapshot.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use domain::message::MessageId;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::sqlite::files::location;
use crate::sqlite::open::{self, OpenError};
use crate::sqlite::schema::{self, newest_schema};
use crate::sqlite::search::file as search;
use crate::sqlite::tables::messages::{self, MessageRow};
use crate::sqlite::tables::segments::segment_of;
use crate::sqlite::tables::senders::{self, count_indexed};
use crate::sqlite::tables::time_counts::TimeCounts;
use crate::sqlite::tables::{by_sender, deletions, keys, sources, top_senders, totals};
use crate::sqlite::upkeep::report::Problem;
use crate::sqlite::upkeep::snapshot::{self, CheckError};
use crate::sqlite::wal::checkpoint;
use crate::sqlite::write::expiry::remove_message;

/// Messages that are removed in one transaction: some tens of milliseconds. Webhooks wait as long, and then the writer reads
/// its state again.
const BATCH_MESSAGES: usize = 1_000;

/// Rows of `deletions` that are removed in one transaction: each is a number, so it takes some ten milliseconds.
const FORGOTTEN_ROWS: usize = 10_000;

/// Least time between two transactions, for the server to catch up.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Messages to be deleted.
#[derive(Clone, Debug)]
pub enum Doomed {
    /// The message with this id, of each source that has one.
    Message(MessageId),
    /// All messages of this sender.
    Sender(String),
}

/// Result of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Messages that were removed.
    pub messages: u64,
    /// Messages whose texts an earlier deletion, which was cut off, had left in the text index or in the log.
    pub left_before: u64,
    /// True if their bytes are gone from the write-ahead logs too, also from that of the text index. If false, somebody was
    /// reading all the time.
    pub is_log_empty: bool,
}

/// Reason why not everything was deleted. Deleted messages stay deleted, and the same command goes on with the rest.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The database can't be read.
    #[error(transparent)]
    Source(#[from] CheckError),
    /// The database is not ours, or of another version.
    #[error("cannot delete from database at {path}: {problem}")]
    Refused {
        /// The database file.
        path: PathBuf,
        /// Its problem.
        problem: Problem,
    },
    /// Its schema is older.
    #[error(
        "cannot delete from database at {path}: its schema is of an older version, run `hookkeeper migrate` first"
    )]
    Older {
        /// The database file.
        path: PathBuf,
    },
    /// SQLite can't write.
    #[error("cannot delete from database at {path}: {source}; run the same command again to go on")]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Deletes messages, in transactions of bounded size. Calls `progress` with the number that is removed so far.
///
/// # Errors
/// [`DeleteError`].
pub fn delete(path: &Path, doomed: &Doomed, progress: &mut dyn FnMut(u64)) -> Result<Deleted, DeleteError> {
    let problem = known_version(path)?;
    if let Some(problem) = problem {
        return Err(DeleteError::Refused { path: path.to_owned(), problem });
    }
    let resolved = location::resolve(path).unwrap_or_else(|_| path.to_owned());
    let sqlite = |source| DeleteError::Sqlite { path: path.to_owned(), source };
    let mut db = open::open_writer(&resolved).map_err(|error| match error {
        OpenError::Sqlite { source, .. } => sqlite(source),
        other => DeleteError::Refused { path: path.to_owned(), problem: Problem::Damaged(other.to_string()) },
    })?;
    if schema::version(&db).map_err(sqlite)? < newest_schema() {
        return Err(DeleteError::Older { path: path.to_owned() });
    }
    let mut delete_all = || {
        let left_before = deletions::count(&db)?;
        let messages = remove_messages(&mut db, doomed, progress)?;
        let erased = erase_texts(&db, &resolved)?;
        let is_index_log_empty = erased.is_empty() || search::overwrite_erased(&resolved)?;
        let is_log_empty = checkpoint::empty_log(&db)? && is_index_log_empty;
        if is_log_empty {
            forget(&mut db, &erased)?;
        }
        // The next start moves what can't be moved now.
        let _ = checkpoint::move_all_and_close(&db);
        Ok(Deleted { messages, left_before, is_log_empty })
    };
    delete_all().map_err(sqlite)
}

/// Reads the version without writing; returns the problem, if there is one.
fn known_version(path: &Path) -> Result<Option<Problem>, CheckError> {
    let mut db = snapshot::open(path)?;
    let tx = snapshot::begin(&mut db).map_err(snapshot::cannot_read(path))?;
    Ok(snapshot::known_version(&tx).map_err(snapshot::cannot_read(path))?.err())
}

fn remove_messages(
    db: &mut Connection,
    doomed: &Doomed,
    progress: &mut dyn FnMut(u64),
) -> rusqlite::Result<u64> {
    let mut n_gone = 0;
    loop {
        let started = Instant::now();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let seqs = find(&tx, doomed)?;
        if seqs.is_empty() {
            return Ok(n_gone);
        }
        remove(&tx, &seqs)?;
        tx.commit()?;
        checkpoint::move_long_log(db)?;
        n_gone += seqs.len() as u64;
        progress(n_gone);
        if seqs.len() < BATCH_MESSAGES {
            return Ok(n_gone);
        }
        thread::sleep(started.elapsed().max(PAUSE_MIN));
    }
}

/// Returns the next places of messages that are to be deleted: a batch, or all that are left.
fn find(tx: &Transaction<'_>, doomed: &Doomed) -> rusqlite::Result<Vec<i64>> {
    let (purged_seq, last_seq) = totals::purged_and_last(tx)?;
    let segments = segment_of(purged_seq)..=segment_of(last_seq);
    let mut seqs: Vec<i64> = Vec::new();
    let n_left = |seqs: &[i64]| BATCH_MESSAGES - seqs.len().min(BATCH_MESSAGES);
    match doomed {
        Doomed::Message(id) => {
            for source_id in sources::all_ids(tx)? {
                let key = keys::key(source_id, id.as_str());
                for segment in segments.clone() {
                    seqs.extend(keys::find_message(tx, segment, &key, id.as_str())?);
                }
            }
            seqs.extend(messages::unindexed_with_id(tx, id.as_str(), n_left(&seqs))?);
        }
        Doomed::Sender(sender) => {
            for segment in segments {
                seqs.extend(by_sender::seqs(tx, segment, sender, n_left(&seqs))?);
            }
            seqs.extend(messages::unindexed_of_sender(tx, sender, n_left(&seqs))?);
        }
    }
    Ok(seqs)
}

fn remove(tx: &Transaction<'_>, seqs: &[i64]) -> rusqlite::Result<()> {
    let (indexed_seq, _) = totals::bounds(tx)?;
    let mut indexed_us = Vec::new();
    // Indexed messages of each sender that are removed.
    let mut per_sender: HashMap<String, u64> = HashMap::new();
    for seq in seqs {
        let (source_id, message) = messages::with_source(tx, *seq)?;
        // The ledger has no key yet of a message that is not indexed, unless by a run under way.
        keys::insert_one(tx, &keys::key(source_id, &message.message_id), *seq)?;
        remove_message(tx, &message)?;
        deletions::insert(tx, *seq)?;
        let MessageRow { sender, ts_us, .. } = message;
        let n_indexed = per_sender.entry(sender).or_default();
        if *seq <= indexed_seq {
            indexed_us.push(ts_us);
            *n_indexed += 1;
        }
    }
    TimeCounts::of(indexed_us.into_iter()).subtract(tx)?;
    let mut n_senders = 0;
    for (sender, n_indexed) in &per_sender {
        senders::delete(tx, sender, *n_indexed)?;
        let is_in_tail = !messages::unindexed_of_sender(tx, sender, 1)?.is_empty();
        n_senders += usize::from(!is_in_tail && count_indexed(tx, sender)? == 0);
        if top_senders::remove(tx, sender)? {
            // The writer ranks all senders again.
            top_senders::clear(tx)?;
            totals::set_ranked(tx, false)?;
        }
    }
    totals::subtract_deleted(tx, seqs.len(), n_senders)
}

/// Takes the deleted messages out of the text index, if there is one; returns their places, 8 bytes for each.
fn erase_texts(db: &Connection, path: &Path) -> rusqlite::Result<Vec<i64>> {
    let mut erased: Vec<i64> = Vec::new();
    loop {
        let seqs = deletions::after(db, erased.last().copied().unwrap_or(0), BATCH_MESSAGES)?;
        if seqs.is_empty() {
            return Ok(erased);
        }
        search::erase(path, &seqs)?;
        erased.extend(seqs);
    }
}

/// Removes the rows of messages that are gone from everywhere, and no others: another deletion may have removed more
/// messages by now, and erases these by itself.
fn forget(db: &mut Connection, erased: &[i64]) -> rusqlite::Result<()> {
    for (n, seqs) in erased.chunks(FORGOTTEN_ROWS).enumerate() {
        if n > 0 {
            thread::sleep(PAUSE_MIN);
        }
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        deletions::remove(&tx, seqs)?;
        tx.commit()?;
    }
    Ok(())
}
