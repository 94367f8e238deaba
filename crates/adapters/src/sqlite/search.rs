//! The index of texts: which messages may have a text that contains another.
//!
//! It is a file of its own beside the database, so that a thread of low priority writes it and no message waits
//! for it. It can be made anew from the messages at any time, and is when it does not fit them: when it was
//! left over from another database, or is damaged. What it does not have yet is looked through.
//!
//! Texts go in folded, and by each three characters in a row (trigrams, [FTS5]): what contains the trigrams of a
//! query need not contain the query, so that whoever asks looks at the text, too.
//!
//! [FTS5]: https://sqlite.org/fts5.html#the_trigram_tokenizer

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use domain::query::{TextQuery, fold_case};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::log_gate::{Checkpoint, HELD_BYTES, LogKeeper, Logs, checkpoint};
use super::schema::{self, BUSY_WAIT_MAX, OpenError};
use super::{beside, private, remove_beside};

/// Characters of a trigram: a shorter text is not found by an index of these.
const TRIGRAM_CHARS: usize = 3;

/// Messages that are indexed in one transaction: some ten milliseconds of work. What a transaction adds is merged with
/// what others have added, again and again: with more messages it is merged less often, but while messages come in
/// faster than ever, more of them are to be looked through.
const BATCH_MESSAGES: usize = 2_000;

/// Bytes of the texts of one transaction, for when they are long.
const BATCH_TEXT_BYTES: usize = 1 << 20;

/// Parts of the index of one size that are merged into one of the next, [`automerge`]. With twice as many as FTS5 has by
/// itself, entries are merged less often, and a query looks into some parts more.
///
/// [`automerge`]: https://sqlite.org/fts5.html#the_automerge_configuration_option
const MERGED_PARTS: i64 = 8;

/// Messages that are taken out in one transaction.
const PURGE_BATCH_MESSAGES: usize = 1_000;

/// Pages that are merged in one transaction after a deletion: some tens of milliseconds, which the index of texts waits.
const MERGED_PAGES: i64 = 1_000;

/// How long messages may wait to be indexed. Until then they are looked through, a microsecond each.
const INDEX_EVERY: Duration = Duration::from_millis(250);

/// How long the thread waits to look again whether it may read.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the thread waits to look again after an error.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What it yields to everything else that the machine has to do (see nice(1)).
const NICENESS: i32 = 19;

/// Trigrams of a query that are looked up: the rarest ones. More of them rule out little more.
const QUERY_TRIGRAMS_MAX: usize = 4;

/// Trigrams of a query that are compared to find those: enough for a phrase of some ten words.
const COMPARED_TRIGRAMS_MAX: usize = 64;

/// How rare a trigram is, is told by where the index has it for this many'th time.
const COMPARED_HITS: u32 = 256;

/// What the file is made of. `texts` has no content of its own, and only which messages have a trigram, not where.
const SCHEMA: &str = "
    CREATE TABLE progress (
        id           INTEGER PRIMARY KEY CHECK (id = 1),
        searched_seq INTEGER NOT NULL, -- the last message that is indexed, or had no text
        purged_seq   INTEGER NOT NULL, -- the last message that is gone from the index because it expired
        body_sha256  BLOB              -- of the last message that is indexed, to tell whether this index is of this database
    ) STRICT;
    INSERT INTO progress (id, searched_seq, purged_seq) VALUES (1, 0, 0);
    CREATE VIRTUAL TABLE texts USING fts5(
        text, content = '', contentless_delete = 1, detail = 'none', tokenize = 'trigram case_sensitive 1'
    );";

/// The version of that.
const SCHEMA_VERSION: i32 = 1;

/// The index file of the database at `path`.
pub(super) fn path_of(path: &Path) -> PathBuf {
    beside(path, "-search")
}

/// The thread that keeps the index up to date. It ends soon after this is dropped.
pub(super) struct SearchIndex {
    running: Mutex<Option<(mpsc::Sender<()>, JoinHandle<()>)>>,
}

impl SearchIndex {
    /// Opens the index of the database at `path`, or makes a new one if there is none that fits, and starts to
    /// keep it up to date.
    pub(super) fn start(path: &Path, logs: Logs) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { path: path_of(path), source };
        let messages = schema::open_reader(path).map_err(sqlite)?;
        let index = match open(path).and_then(|index| Ok((fits(&index, &messages)?, index))) {
            Ok((true, index)) => index,
            Ok((false, _)) | Err(_) => {
                remove(path).map_err(|source| OpenError::Folder { path: path_of(path), source })?;
                open(path).map_err(sqlite)?
            }
        };
        let log = beside(&path_of(path), "-wal");
        let (end, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("sqlite-search".to_owned())
            .spawn(move || KeepingUp { index, messages, log, logs }.run(&ended))
            .expect("a thread can be started while the program starts");
        Ok(Self { running: Mutex::new(Some((end, thread))) })
    }

    /// Ends the thread, which closes what it has open; waits for what it is about, some ten milliseconds.
    pub(super) fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((end, thread)) = running {
            drop(end);
            // A panic of the thread was printed when it happened; what it left is mended at the next start.
            let _ = thread.join();
        }
    }
}

/// Removes the index: what it was made from is there no longer, or it does not fit.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    remove_beside(&path_of(path), &["", "-wal", "-shm"])
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let path = path_of(path);
    // If it can't be made, SQLite says so.
    let _ = private::create_file(&path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut index = Connection::open_with_flags(path, flags)?;
    index.busy_timeout(BUSY_WAIT_MAX)?;
    index.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    index.pragma_update(None, "journal_size_limit", HELD_BYTES / 2)?;
    // What a power cut takes is made again.
    index.pragma_update(None, "synchronous", "normal")?;
    index.execute_batch("PRAGMA secure_delete = on")?;
    let version: i32 = index.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        let tx = index.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(SCHEMA)?;
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        tx.commit()?;
    }
    // Each time: an index that is there may have been made without.
    index.execute("INSERT INTO texts (texts, rank) VALUES ('automerge', ?1)", [MERGED_PARTS])?;
    Ok(index)
}

/// Whether it was made from these messages, by this version.
fn fits(index: &Connection, messages: &Connection) -> rusqlite::Result<bool> {
    let version: i32 = index.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let (searched_seq, digest): (i64, Option<Vec<u8>>) =
        index.query_row("SELECT searched_seq, body_sha256 FROM progress", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let last_seq: i64 = messages.query_row("SELECT last_seq FROM totals", [], |row| row.get(0))?;
    let of_message: Option<Vec<u8>> = messages
        .query_row("SELECT body_sha256 FROM messages WHERE seq = ?1", [searched_seq], |row| row.get(0))
        .optional()?;
    Ok(version == SCHEMA_VERSION && searched_seq <= last_seq && of_message.is_none_or(|d| Some(d) == digest))
}

/// What the thread has.
struct KeepingUp {
    index: Connection,
    messages: Connection,
    /// The index's write-ahead log.
    log: PathBuf,
    logs: Logs,
}

impl KeepingUp {
    fn run(mut self, ended: &Receiver<()>) {
        // Without leave to be nice it competes with everybody else, and does the same.
        let _ = rustix::process::nice(NICENESS);
        let mut log_keeper = LogKeeper::new(self.logs.texts.clone());
        let mut wait = Duration::ZERO;
        while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            if self.logs.messages.is_closed() {
                wait = LOOK_EVERY;
                continue;
            }
            wait = match self.go_on() {
                Ok(true) => Duration::ZERO,
                Ok(false) => INDEX_EVERY,
                Err(_) => RETRY_AFTER,
            };
            self.bound_log(&mut log_keeper);
            if !wait.is_zero() {
                // Page caches that are not needed any more. What can't be given back stays.
                let _ = self.index.release_memory().and_then(|()| self.messages.release_memory());
            }
        }
    }

    /// Whether there is more to do.
    fn go_on(&mut self) -> rusqlite::Result<bool> {
        // As niced as it is, it may read from the log of the messages for long.
        let reading = self.logs.messages.search();
        let expired_seq = self.messages.query_row("SELECT purged_seq FROM totals", [], |row| row.get(0))?;
        // Before messages are read: what is deleted after that is taken out of the index after this, too.
        let tx = self.index.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let searched_seq = tx.query_row("SELECT searched_seq FROM progress", [], |row| row.get(0))?;
        let batch = Batch::read(&self.messages, searched_seq)?;
        drop(reading);
        let is_behind = index_batch(tx, batch)?;
        let n_purged = purge_batch(&mut self.index, expired_seq)?;
        Ok(is_behind || n_purged == PURGE_BATCH_MESSAGES)
    }

    fn bound_log(&self, keeper: &mut LogKeeper) {
        // SQLite moves it by itself, a thousand pages at a time, but while searches overlap it does not begin anew.
        let log_bytes = fs::metadata(&self.log).map_or(0, |log| log.len());
        if log_bytes < HELD_BYTES {
            return;
        }
        let n_pages = self.index.query_row("PRAGMA wal_checkpoint(passive)", [], |row| row.get(1));
        // After an error SQLite tries again itself.
        keeper.keep(n_pages.unwrap_or(0), || checkpoint(&self.index, Checkpoint::Restart).unwrap_or(false));
    }
}

/// The next messages that are not indexed.
#[derive(Default)]
struct Batch {
    /// Folded, of those that have one.
    texts: Vec<(i64, String)>,
    /// The last one.
    last: Option<(i64, Vec<u8>)>,
    /// Whether there may be more.
    is_full: bool,
}

impl Batch {
    /// Reads all at once: as long as somebody reads, the writer can't begin its log anew.
    fn read(messages: &Connection, after_seq: i64) -> rusqlite::Result<Self> {
        let mut next = messages.prepare_cached(
            "SELECT seq, text, body_sha256 FROM messages \
             WHERE seq > ?1 AND seq <= (SELECT last_seq FROM totals) ORDER BY seq LIMIT ?2",
        )?;
        let mut rows = next.query(params![after_seq, BATCH_MESSAGES])?;
        let (mut batch, mut n_messages, mut n_bytes) = (Self::default(), 0, 0);
        while !batch.is_full
            && let Some(row) = rows.next()?
        {
            let seq = row.get(0)?;
            if let ValueRef::Text(text) = row.get_ref(1)? {
                n_bytes += text.len();
                batch.texts.push((seq, indexable(&fold_case(&String::from_utf8_lossy(text)))));
            }
            batch.last = Some((seq, row.get(2)?));
            n_messages += 1;
            batch.is_full = n_messages == BATCH_MESSAGES || n_bytes >= BATCH_TEXT_BYTES;
        }
        Ok(batch)
    }
}

/// Indexes these messages; returns whether there may be more.
fn index_batch(tx: Transaction<'_>, batch: Batch) -> rusqlite::Result<bool> {
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

/// Takes out the next messages that have expired; returns how many places of the order of arrival it went on.
fn purge_batch(index: &mut Connection, expired_seq: i64) -> rusqlite::Result<usize> {
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

/// Takes messages out that an operator has deleted. After the last ones all parts of the index are merged, some pages in a
/// transaction: until then their trigrams are still there, and a text could be guessed by them.
pub(super) fn erase(path: &Path, seqs: &[i64], are_last: bool) -> rusqlite::Result<()> {
    if !path_of(path).exists() {
        return Ok(());
    }
    let mut index = open(path)?;
    let tx = index.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut delete = tx.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?;
        for seq in seqs {
            delete.execute([seq])?;
        }
    }
    tx.commit()?;
    if !are_last {
        return Ok(());
    }
    // https://sqlite.org/fts5.html#the_merge_command: a negative number begins to merge all.
    let mut n_pages = -MERGED_PAGES;
    let n_changes =
        |index: &Connection| index.query_row("SELECT total_changes()", [], |row| row.get::<_, i64>(0));
    loop {
        let before = n_changes(&index)?;
        index.execute("INSERT INTO texts (texts, rank) VALUES ('merge', ?1)", [n_pages])?;
        if n_changes(&index)? - before < 2 {
            break;
        }
        n_pages = MERGED_PAGES;
    }
    index.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(()))
}

/// How many messages are not indexed yet. The index is attached as `search`.
pub(super) fn unindexed(tx: &Transaction<'_>) -> rusqlite::Result<u64> {
    let sql = "SELECT (SELECT last_seq FROM totals) - (SELECT searched_seq FROM search.progress)";
    tx.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// To FTS5 a text ends where it has a NUL.
fn indexable(folded: &str) -> String {
    folded.replace('\0', "\u{fffd}")
}

/// How to find a text by the index.
pub(super) struct Search {
    /// What a message has to match to come into question, in the language of FTS5.
    pub(super) matching: String,
    /// The last message that is indexed.
    pub(super) searched_seq: i64,
    /// How many messages the rarest of its trigrams is in, about: as if it were as frequent everywhere as among
    /// the oldest.
    pub(super) n_expected: u64,
}

impl Search {
    /// `None` if the text is too short to have trigrams. The index is attached as `search`.
    ///
    /// It is the first to be read in a transaction: a message that is purged later may be gone from the index,
    /// but then it is gone from the snapshot of the messages, too.
    pub(super) fn of(tx: &Transaction<'_>, text: &TextQuery) -> rusqlite::Result<Option<Self>> {
        let trigrams = trigrams(&indexable(text.folded()));
        if trigrams.is_empty() {
            return Ok(None);
        }
        let (searched_seq, purged_seq): (i64, i64) = tx
            .prepare_cached("SELECT searched_seq, purged_seq FROM search.progress")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut by_rarity = Vec::new();
        for trigram in trigrams {
            let matching = format!("\"{}\"", trigram.replace('"', "\"\""));
            let hit: Option<i64> = tx
                .prepare_cached("SELECT rowid FROM search.texts WHERE texts MATCH ?1 LIMIT 1 OFFSET ?2")?
                .query_row(params![matching, COMPARED_HITS], |row| row.get(0))
                .optional()?;
            // Nowhere so often is the rarest; else the later, the rarer.
            by_rarity.push((hit.map_or(i64::MIN, |seq| -seq), matching));
        }
        by_rarity.sort();
        let n_expected = match by_rarity[0].0 {
            i64::MIN => u64::from(COMPARED_HITS),
            hit => {
                let n_places = |to: i64| u64::try_from(to - purged_seq).unwrap_or(0).max(1);
                n_places(searched_seq).saturating_mul(COMPARED_HITS.into()) / n_places(-hit)
            }
        };
        by_rarity.truncate(QUERY_TRIGRAMS_MAX);
        let rarest: Vec<String> = by_rarity.into_iter().map(|(_, matching)| matching).collect();
        Ok(Some(Self { matching: rarest.join(" AND "), searched_seq, n_expected }))
    }
}

fn trigrams(text: &str) -> BTreeSet<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.windows(TRIGRAM_CHARS).map(|w| w.iter().collect()).take(COMPARED_TRIGRAMS_MAX).collect()
}
