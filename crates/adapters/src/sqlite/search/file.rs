//! The index of texts: which messages may have a text that contains another.
//!
//! It is a file of its own beside the database, so that a thread of low priority writes it and no message waits
//! for it. It can be made anew from the messages at any time, and is when it does not fit them: when it was
//! left over from another database, or is found damaged, at a start or while it is used. What it does not have yet is
//! looked through.
//!
//! Texts go in folded, and by each three characters in a row (trigrams, [FTS5]): what contains the trigrams of a
//! query need not contain the query, so that whoever asks looks at the text, too.
//!
//! [FTS5]: https://sqlite.org/fts5.html#the_trigram_tokenizer

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use domain::query::{TextQuery, fold_case};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::sqlite::error::is_passing;
use crate::sqlite::files::beside;
use crate::sqlite::files::private;
use crate::sqlite::files::remove_beside;
use crate::sqlite::schema;
use crate::sqlite::schema::{BUSY_WAIT_MAX, OpenError};
use crate::sqlite::search::check as search_check;
use crate::sqlite::wal::checkpoint as checkpoints;
use crate::sqlite::wal::gate::{Checkpoint, HELD_BYTES, LogKeeper, Logs, checkpoint};
use domain::event::StoreEvent;

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

/// How long the whole index is not looked at again: it takes seconds to minutes.
const VERIFY_EVERY_MIN: Duration = Duration::from_secs(60);

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
pub(crate) fn path_of(path: &Path) -> PathBuf {
    beside(path, "-search")
}

/// The thread that keeps the index up to date. It ends soon after this is dropped.
pub(crate) struct SearchIndex {
    published: Arc<Mutex<Published>>,
    running: Mutex<Option<(SyncSender<Suspicion>, JoinHandle<()>)>>,
}

/// Which file is the index: another one has another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    generation: u64,
    /// Without it, questions look through the texts.
    pub(crate) is_there: bool,
}

/// Somebody was told by SQLite that a file is damaged, and it may be the index.
struct Suspicion;

impl SearchIndex {
    /// Opens the index of the database at `path`, or makes a new one if there is none that fits, and starts to
    /// keep it up to date. If the disk does not allow it now, the thread tries again later. `on_event` is told why an
    /// index is thrown away.
    pub(crate) fn start(
        path: &Path,
        logs: Logs,
        on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>,
    ) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let messages = schema::open_reader(path).map_err(sqlite)?;
        let published = Arc::default();
        let mut keeper = Keeper {
            path: path.to_owned(),
            messages,
            index: None,
            published: Arc::clone(&published),
            log: beside(&path_of(path), "-wal"),
            logs,
            verified: None,
            on_event,
        };
        // If it can't be now, the thread tries again.
        let _ = keeper.open();
        let (suspect, suspicions) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("sqlite-search".to_owned())
            .spawn(move || keeper.run(&suspicions))
            .expect("a thread can be started while the program starts");
        Ok(Self { published, running: Mutex::new(Some((suspect, thread))) })
    }

    pub(crate) fn published(&self) -> Published {
        *lock(&self.published)
    }

    /// Has the index looked at soon, and made anew if it is damaged.
    pub(crate) fn suspect(&self) {
        if let Some((suspect, _)) = &*lock(&self.running) {
            // One suspicion that waits is enough, and a thread that has ended will look at its next start.
            let _ = suspect.try_send(Suspicion);
        }
    }

    /// Ends the thread, which closes what it has open; waits for what it is about, some ten milliseconds.
    pub(crate) fn close(&self) {
        let running = lock(&self.running).take();
        if let Some((suspect, thread)) = running {
            drop(suspect);
            // A panic of the thread was printed when it happened; what it left is mended at the next start.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the index: what it was made from is there no longer, or it does not fit.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    remove_beside(&path_of(path), &["", "-wal", "-shm"])
}

/// Attaches the index, as `search`, to a connection that reads the messages. It stays away if it can't be had.
pub(crate) fn attach(db: &Connection, path: &Path) -> rusqlite::Result<()> {
    db.execute("ATTACH ?1 AS search", [path_of(path).to_string_lossy()]).map(drop)
}

fn is_attached(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM pragma_database_list WHERE name = 'search'")?.exists([])
}

/// What the thread works with.
struct Keeper {
    path: PathBuf,
    messages: Connection,
    /// `None` as long as it can't be opened.
    index: Option<Connection>,
    published: Arc<Mutex<Published>>,
    /// The index's write-ahead log.
    log: PathBuf,
    logs: Logs,
    /// When the whole index was last looked at.
    verified: Option<Instant>,
    on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>,
}

impl Keeper {
    fn run(mut self, suspicions: &Receiver<Suspicion>) {
        // Without leave to be nice it competes with everybody else, and does the same.
        let _ = rustix::process::nice(NICENESS);
        let mut work: fn(&mut Self) -> Result<bool, Trouble> = Self::compare_sample;
        let mut log_keeper = LogKeeper::new(self.logs.texts.clone());
        let mut wait = Duration::ZERO;
        loop {
            match suspicions.recv_timeout(wait) {
                Ok(Suspicion) => work = Self::verify,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.logs.messages.is_closed() {
                wait = LOOK_EVERY;
                continue;
            }
            let done = self.open().and_then(|()| work(&mut self));
            work = Self::keep_up;
            wait = match done {
                Ok(true) => Duration::ZERO,
                Ok(false) => INDEX_EVERY,
                Err(trouble) => {
                    if let Trouble::Index(error) = trouble {
                        self.throw_away(&error.to_string());
                        // With a new one questions know at once what is not indexed.
                        let _ = self.open();
                    }
                    RETRY_AFTER
                }
            };
            self.bound_log(&mut log_keeper);
            if !wait.is_zero()
                && let Some(index) = &self.index
            {
                // Page caches that are not needed any more. What can't be given back stays.
                let _ = index.release_memory().and_then(|()| self.messages.release_memory());
            }
        }
    }

    /// Opens the index if it is not open. One that is damaged, or was made from other messages, is made anew.
    fn open(&mut self) -> Result<(), Trouble> {
        if self.index.is_some() {
            return Ok(());
        }
        let look = || {
            let mut index = open(&self.path)?;
            let fits = fits(&index.transaction()?, &self.messages)?;
            Ok((index, fits))
        };
        let index = match look() {
            Ok((index, true)) => index,
            Ok((index, false)) => {
                drop(index);
                self.throw_away("it was made from other messages, or by another version");
                open(&self.path)?
            }
            Err(Trouble::Index(error)) => {
                self.throw_away(&error.to_string());
                open(&self.path)?
            }
            Err(Trouble::Elsewhere) => return Err(Trouble::Elsewhere),
        };
        self.index = Some(index);
        self.publish(true);
        Ok(())
    }

    /// Whoever reads the old file is not to find it again, and does not keep it.
    fn throw_away(&mut self, why: &str) {
        self.index = None;
        self.publish(false);
        // If it can't be removed, it will be found again as it is.
        if remove(&self.path).is_ok() {
            (self.on_event)(StoreEvent::SearchIndexRebuilt { why: why.to_owned() });
        }
    }

    fn publish(&self, is_there: bool) {
        let mut published = lock(&self.published);
        published.generation += 1;
        published.is_there = is_there;
    }

    /// Indexes and purges some messages; returns whether there may be more.
    fn keep_up(&mut self) -> Result<bool, Trouble> {
        let Some(index) = &mut self.index else {
            return Ok(false);
        };
        // As niced as it is, it may read from the log of the messages for long.
        let reading = self.logs.messages.search();
        // Before messages are read: what is deleted after that is taken out of the index after this, too.
        let tx = index.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let searched_seq = tx.query_row("SELECT searched_seq FROM progress", [], |row| row.get(0))?;
        let of_messages = || {
            let purged = "SELECT purged_seq FROM totals";
            let expired_seq = self.messages.query_row(purged, [], |row| row.get(0))?;
            Ok((expired_seq, Batch::read(&self.messages, searched_seq)?))
        };
        let (expired_seq, batch) = of_messages().map_err(Trouble::of_messages)?;
        drop(reading);
        let is_behind = index_batch(tx, batch)?;
        let n_purged = purge_batch(index, expired_seq)?;
        Ok(is_behind || n_purged == PURGE_BATCH_MESSAGES)
    }

    fn bound_log(&self, keeper: &mut LogKeeper) {
        // SQLite moves it by itself, a thousand pages at a time, but while searches overlap it does not begin anew.
        let log_bytes = fs::metadata(&self.log).map_or(0, |log| log.len());
        let Some(index) = self.index.as_ref().filter(|_| log_bytes >= HELD_BYTES) else {
            keeper.keep(0, || false);
            return;
        };
        let n_pages = index.query_row("PRAGMA wal_checkpoint(passive)", [], |row| row.get(1));
        // Its file is cut, too: else it would be long, here and to SQLite, until the next write. After an error SQLite
        // tries again itself.
        keeper.keep(n_pages.unwrap_or(0), || checkpoint(index, Checkpoint::Truncate).unwrap_or(false));
    }

    /// At a start: whether some messages are found by their texts. All of them would take too long.
    fn compare_sample(&mut self) -> Result<bool, Trouble> {
        let missing = match &mut self.index {
            Some(index) => search_check::missing_in_sample(&index.transaction()?, &self.messages)?,
            None => None,
        };
        if let Some(seq) = missing {
            self.throw_away(&format!("it does not find message {seq}"));
        }
        Ok(true)
    }

    /// Looks at all of it, but not again and again: what is damaged may be the messages.
    fn verify(&mut self) -> Result<bool, Trouble> {
        let is_known = self.verified.is_some_and(|verified| verified.elapsed() < VERIFY_EVERY_MIN);
        if is_known || self.index.is_none() {
            return Ok(true);
        }
        self.verified = Some(Instant::now());
        // On a connection of its own, which has nothing in its cache.
        let mut index = schema::open_reader(&path_of(&self.path))?;
        let damages = search_check::damages(&index.transaction()?)?;
        if let Some(damage) = damages.first() {
            self.throw_away(damage);
        }
        Ok(true)
    }
}

/// Why the thread can't go on.
enum Trouble {
    /// The index is damaged, or not one of ours.
    Index(rusqlite::Error),
    /// The disk, another process, or the messages: the index may be as it should be.
    Elsewhere,
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        if is_passing(&error) { Self::Elsewhere } else { Self::Index(error) }
    }
}

impl Trouble {
    /// What fails where the messages are read.
    fn of_messages(_: rusqlite::Error) -> Self {
        Self::Elsewhere
    }
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
    // An index that is there may have been made without. Where nothing can be written it may be read.
    let is_set = "SELECT 1 FROM texts_config WHERE k = 'automerge' AND v = ?1";
    if !index.prepare(is_set)?.exists([MERGED_PARTS])? {
        index.execute("INSERT INTO texts (texts, rank) VALUES ('automerge', ?1)", [MERGED_PARTS])?;
    }
    Ok(index)
}

/// Whether it was made from these messages, by this version.
pub(crate) fn fits(index: &Transaction<'_>, messages: &Connection) -> rusqlite::Result<bool> {
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

/// Takes messages out that an operator has deleted. Their trigrams stay until [`overwrite_erased`].
pub(crate) fn erase(path: &Path, seqs: &[i64]) -> rusqlite::Result<()> {
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
    tx.commit()
}

/// Merges all parts of the index, some pages in a transaction, and empties its log: until then the trigrams of what was
/// erased are still there, and a text could be guessed by them. Returns whether the log is empty.
pub(crate) fn overwrite_erased(path: &Path) -> rusqlite::Result<bool> {
    if !path_of(path).exists() {
        return Ok(true);
    }
    let index = open(path)?;
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
    checkpoints::empty_log(&index)
}

/// How many messages are not indexed yet. The index is attached as `search`, or there is none.
pub(crate) fn unindexed(tx: &Transaction<'_>) -> rusqlite::Result<u64> {
    if !is_attached(tx)? {
        return tx.query_row("SELECT last_seq FROM totals", [], |row| row.get(0));
    }
    let sql = "SELECT (SELECT last_seq FROM totals) - (SELECT searched_seq FROM search.progress)";
    tx.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// To FTS5 a text ends where it has a NUL.
fn indexable(folded: &str) -> String {
    folded.replace('\0', "\u{fffd}")
}

/// How to find a text by the index.
pub(crate) struct Search {
    /// What a message has to match to come into question, in the language of FTS5.
    pub(crate) matching: String,
    /// The last message that is indexed.
    pub(crate) searched_seq: i64,
    /// How many messages the rarest of its trigrams is in, about: as if it were as frequent everywhere as among
    /// the oldest.
    pub(crate) n_expected: u64,
}

impl Search {
    /// `None` if the text is too short to have trigrams, or there is no index attached as `search`.
    ///
    /// It is the first to be read in a transaction: a message that is purged later may be gone from the index,
    /// but then it is gone from the snapshot of the messages, too.
    pub(crate) fn of(tx: &Transaction<'_>, text: &TextQuery) -> rusqlite::Result<Option<Self>> {
        let trigrams = trigrams(&indexable(text.folded()));
        if trigrams.is_empty() || !is_attached(tx)? {
            return Ok(None);
        }
        let (searched_seq, purged_seq): (i64, i64) = tx
            .prepare_cached("SELECT searched_seq, purged_seq FROM search.progress")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut by_rarity = Vec::new();
        for trigram in trigrams {
            let matching = matching(&trigram);
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

/// One trigram in the language of FTS5.
fn matching(trigram: &str) -> String {
    format!("\"{}\"", trigram.replace('"', "\"\""))
}

/// What a message with this folded text must match; `None` if it is too short to be found by the index.
pub(crate) fn matching_all(folded: &str) -> Option<String> {
    let trigrams: Vec<String> =
        trigrams(&indexable(folded)).iter().map(|trigram| matching(trigram)).collect();
    (!trigrams.is_empty()).then(|| trigrams.join(" AND "))
}

fn trigrams(text: &str) -> BTreeSet<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.windows(TRIGRAM_CHARS).map(|w| w.iter().collect()).take(COMPARED_TRIGRAMS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: once the log is bounded it is short, also if nothing more is indexed. It stayed as long as it was until the next
    /// write, and the gate was closed every time that a search was under way.
    #[test]
    fn a_log_that_was_long_keeps_no_search_waiting_when_nothing_more_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        schema::open_and_migrate(&path).unwrap();
        let keeper = Keeper {
            messages: schema::open_reader(&path).unwrap(),
            index: Some(open(&path).unwrap()),
            published: Arc::default(),
            log: beside(&path_of(&path), "-wal"),
            path,
            logs: Logs::new(),
            verified: None,
            on_event: Arc::new(|_| {}),
        };
        let grow =
            format!("CREATE TABLE long (bytes BLOB); INSERT INTO long VALUES (zeroblob({HELD_BYTES}))");
        keeper.index.as_ref().unwrap().execute_batch(&grow).unwrap();
        let mut log_keeper = LogKeeper::new(keeper.logs.texts.clone());
        keeper.bound_log(&mut log_keeper);
        let _search = keeper.logs.texts.search();
        keeper.bound_log(&mut log_keeper);
        assert!(!keeper.logs.texts.is_closed());
    }
}
