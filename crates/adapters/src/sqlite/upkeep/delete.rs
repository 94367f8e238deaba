//! Messages that an operator has to remove: one, or all of a sender. Beside a server that writes, or without one.
//!
//! A message leaves its table, its indexes, the counts and the index of texts, and what it took up is overwritten
//! (`secure_delete`). Its key stays in the ledger: a repeat is a duplicate. A writer in another process learns by the
//! mark in `totals` that it has to look anew, a question by `totals.deleted_count`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use domain::message::MessageId;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::sqlite::files::location;
use crate::sqlite::schema;
use crate::sqlite::search::file as search;
use crate::sqlite::tables::key_filter::segment_of;
use crate::sqlite::tables::senders as sender_counts;
use crate::sqlite::tables::senders::count_indexed;
use crate::sqlite::tables::time_counts::TimeCounts;
use crate::sqlite::tail;
use crate::sqlite::upkeep::check;
use crate::sqlite::upkeep::check::{CheckError, Problem};
use crate::sqlite::wal::checkpoint as checkpoints;
use crate::sqlite::write::expiry::MessageRow;

/// Messages that are removed in one transaction, some tens of milliseconds. Webhooks wait as long, and then the writer
/// looks anew at what it has in memory.
const BATCH_MESSAGES: usize = 1_000;

/// Rows of `deletions` that are forgotten in one transaction: each is a number, so that it takes some ten milliseconds.
const FORGOTTEN_ROWS: usize = 10_000;

/// How long a server is left alone between two transactions, at least: it has to catch up.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// What is to be deleted.
#[derive(Clone, Debug)]
pub enum Doomed {
    /// The message with this id, of each source that has one.
    Message(MessageId),
    /// All messages of this sender.
    Sender(String),
}

/// What was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Messages that were removed.
    pub messages: u64,
    /// Messages whose texts a deletion before, which was cut off, had left in the index of texts or in the log.
    pub left_before: u64,
    /// Whether what they took up in the write-ahead logs is gone, too, that of the index of texts included; if not,
    /// somebody was reading all the time.
    pub is_log_empty: bool,
}

/// Why not all was deleted. What was deleted stays so, and the same command goes on with the rest.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// It is not there.
    #[error(transparent)]
    Source(#[from] CheckError),
    /// It is not ours, or of another version.
    #[error("cannot delete from database at {path}: {problem}")]
    Refused {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
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

/// Deletes messages, in transactions of a bounded size. `progress` is told how many are gone so far.
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
    let mut db = schema::open_writer(&resolved).map_err(|error| match error {
        schema::OpenError::Sqlite { source, .. } => sqlite(source),
        other => DeleteError::Refused { path: path.to_owned(), problem: Problem::Damaged(other.to_string()) },
    })?;
    if schema::version(&db).map_err(sqlite)? < schema::SCHEMA_VERSION {
        return Err(DeleteError::Older { path: path.to_owned() });
    }
    let mut delete_all = || {
        let left_before = db.query_row("SELECT count(*) FROM deletions", [], |row| row.get(0))?;
        let messages = remove_messages(&mut db, doomed, progress)?;
        let erased = erase_texts(&db, &resolved)?;
        let is_index_log_empty = erased.is_empty() || search::overwrite_erased(&resolved)?;
        let is_log_empty = checkpoints::empty_log(&db)? && is_index_log_empty;
        if is_log_empty {
            forget(&mut db, &erased)?;
        }
        // What can't be moved now is moved by the next start.
        let _ = checkpoints::move_all_and_close(&db);
        Ok(Deleted { messages, left_before, is_log_empty })
    };
    delete_all().map_err(sqlite)
}

/// Looks without writing: what is wrong with it, if anything is.
fn known_version(path: &Path) -> Result<Option<Problem>, CheckError> {
    let mut db = check::open(path)?;
    let tx = check::snapshot(&mut db).map_err(check::cannot_read(path))?;
    Ok(check::known_version(&tx).map_err(check::cannot_read(path))?.err())
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
        checkpoints::move_long_log(db)?;
        n_gone += seqs.len() as u64;
        progress(n_gone);
        if seqs.len() < BATCH_MESSAGES {
            return Ok(n_gone);
        }
        thread::sleep(started.elapsed().max(PAUSE_MIN));
    }
}

/// The next places of messages that are to be deleted: a batch, or all that are left.
fn find(tx: &Transaction<'_>, doomed: &Doomed) -> rusqlite::Result<Vec<i64>> {
    let (purged_seq, last_seq): (i64, i64) =
        tx.query_row("SELECT purged_seq, last_seq FROM totals", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let segments = segment_of(purged_seq)..=segment_of(last_seq);
    let mut seqs: Vec<i64> = Vec::new();
    match doomed {
        Doomed::Message(id) => {
            let sources: Vec<i64> = tx
                .prepare("SELECT source_id FROM sources")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let mut find = tx.prepare(
                "SELECT seq FROM message_keys JOIN messages USING (seq) \
                 WHERE segment = ?1 AND key = ?2 AND message_id = ?3 AND seq <= (SELECT indexed_seq FROM totals)",
            )?;
            for source_id in sources {
                let key = tail::key(source_id, id.as_str());
                for segment in segments.clone() {
                    seqs.extend(
                        find.query_row(params![segment, key, id.as_str()], |row| row.get::<_, i64>(0))
                            .optional()?,
                    );
                }
            }
        }
        Doomed::Sender(sender) => {
            let mut find = tx.prepare(
                "SELECT seq FROM messages_by_sender WHERE segment = ?1 AND sender = ?2 \
                    AND seq <= (SELECT indexed_seq FROM totals) LIMIT ?3",
            )?;
            for segment in segments {
                let n_max = BATCH_MESSAGES - seqs.len();
                let found = find.query_map(params![segment, sender, n_max], |row| row.get(0))?;
                seqs.extend(found.collect::<rusqlite::Result<Vec<i64>>>()?);
            }
        }
    }
    let (column, value) = match doomed {
        Doomed::Message(id) => ("message_id", id.as_str()),
        Doomed::Sender(sender) => ("sender", sender.as_str()),
    };
    let mut in_tail = tx.prepare(&format!(
        "SELECT seq FROM messages WHERE seq > (SELECT indexed_seq FROM totals) AND {column} = ?1 LIMIT ?2"
    ))?;
    let in_tail = in_tail
        .query_map(params![value, BATCH_MESSAGES - seqs.len().min(BATCH_MESSAGES)], |row| row.get(0))?;
    seqs.extend(in_tail.collect::<rusqlite::Result<Vec<i64>>>()?);
    Ok(seqs)
}

fn remove(tx: &Transaction<'_>, seqs: &[i64]) -> rusqlite::Result<()> {
    let indexed_seq: i64 = tx.query_row("SELECT indexed_seq FROM totals", [], |row| row.get(0))?;
    let mut indexed_us = Vec::new();
    // How many messages of each sender go that are indexed.
    let mut per_sender: HashMap<String, u64> = HashMap::new();
    for seq in seqs {
        let (source_id, message) = tx
            .prepare_cached(
                "SELECT source_id, sender, ts_us, ts_finer, message_id FROM messages WHERE seq = ?1",
            )?
            .query_row([seq], |row| {
                let (ts_us, ts_finer) = (row.get(2)?, row.get(3)?);
                let (sender, message_id) = (row.get(1)?, row.get(4)?);
                Ok((row.get(0)?, MessageRow { seq: *seq, sender, ts_us, ts_finer, message_id }))
            })?;
        let key = tail::key(source_id, &message.message_id);
        // What is in no index has no key in the ledger yet, unless by a run under way.
        tx.prepare_cached("INSERT OR IGNORE INTO message_keys (segment, key, seq) VALUES (?1, ?2, ?3)")?
            .execute(params![segment_of(*seq), key, seq])?;
        message.remove(tx)?;
        tx.prepare_cached("INSERT INTO deletions (seq) VALUES (?1)")?.execute([seq])?;
        let n_indexed = per_sender.entry(message.sender).or_default();
        if *seq <= indexed_seq {
            indexed_us.push(message.ts_us);
            *n_indexed += 1;
        }
    }
    TimeCounts::of(indexed_us.into_iter()).subtract(tx)?;
    let mut n_senders = 0;
    for (sender, n_indexed) in &per_sender {
        sender_counts::delete(tx, sender, *n_indexed)?;
        let is_in_tail = tx
            .prepare_cached("SELECT 1 FROM messages WHERE seq > ?1 AND sender = ?2")?
            .exists(params![indexed_seq, sender])?;
        n_senders += usize::from(!is_in_tail && count_indexed(tx, sender)? == 0);
        // The writer ranks all anew.
        let is_ranked = tx.execute("DELETE FROM top_senders WHERE sender = ?1", [sender])? > 0;
        if is_ranked {
            tx.execute_batch("DELETE FROM top_senders; UPDATE totals SET is_ranked = 0")?;
        }
    }
    // With a mark that is nobody's: every writer looks anew.
    tx.execute(
        "UPDATE totals SET message_count = message_count - ?1, sender_count = sender_count - ?2, \
                deleted_count = deleted_count + ?1, writer_id = random()",
        params![seqs.len(), n_senders],
    )?;
    Ok(())
}

/// Takes what was deleted out of the index of texts, if there is one; returns what that is, 8 bytes for each message.
fn erase_texts(db: &Connection, path: &Path) -> rusqlite::Result<Vec<i64>> {
    let mut erased: Vec<i64> = Vec::new();
    loop {
        let erased_seq = erased.last().copied().unwrap_or(0);
        let seqs: Vec<i64> = db
            .prepare("SELECT seq FROM deletions WHERE seq > ?1 ORDER BY seq LIMIT ?2")?
            .query_map(params![erased_seq, BATCH_MESSAGES], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        if seqs.is_empty() {
            return Ok(erased);
        }
        search::erase(path, &seqs)?;
        erased.extend(seqs);
    }
}

/// Forgets what is gone from everywhere, and nothing else: another deletion may have removed more meanwhile, and erases
/// that by itself.
fn forget(db: &mut Connection, erased: &[i64]) -> rusqlite::Result<()> {
    for (n, seqs) in erased.chunks(FORGOTTEN_ROWS).enumerate() {
        if n > 0 {
            thread::sleep(PAUSE_MIN);
        }
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut forget = tx.prepare_cached("DELETE FROM deletions WHERE seq = ?1")?;
            for seq in seqs {
                forget.execute([seq])?;
            }
        }
        tx.commit()?;
    }
    Ok(())
}
