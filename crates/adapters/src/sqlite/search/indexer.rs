//! The thread that keeps the text index up to date.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use domain::event::StoreEvent;
use rusqlite::{Connection, TransactionBehavior};

use crate::sqlite::connection;
use crate::sqlite::error::is_passing;
use crate::sqlite::files::beside;
use crate::sqlite::search::batch::{Batch, PURGE_BATCH_MESSAGES, index_batch, purge_batch};
use crate::sqlite::search::{file, verify};
use crate::sqlite::tables::totals;
use crate::sqlite::wal::checkpoint::{Checkpoint, move_log};
use crate::sqlite::wal::gate::{HELD_BYTES, LogKeeper, Logs};

/// Time that messages may wait to be indexed. Until then a search reads their texts, a microsecond each.
const INDEX_EVERY: Duration = Duration::from_millis(250);

/// Time that the thread waits before it looks again whether it may read.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Time that the thread waits after an error.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Least time between two checks of the whole text index: one takes seconds to minutes.
const VERIFY_EVERY_MIN: Duration = Duration::from_secs(60);

/// Niceness of the thread: everything else on the machine goes first (see nice(1)).
const NICENESS: i32 = 19;

/// The thread that keeps the text index up to date. It ends soon after this is dropped.
pub(crate) struct SearchIndex {
    published: Arc<Mutex<Published>>,
    running: Mutex<Option<(SyncSender<Suspicion>, JoinHandle<()>)>>,
}

/// Identity of the file that is the text index: another file has another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    generation: u64,
    /// False while there is none, and searches read the texts.
    pub(crate) is_there: bool,
}

/// SQLite has reported damage, and the text index may be the damaged file.
struct Suspicion;

impl SearchIndex {
    /// Opens the text index of the database at `path`, or creates one if none fits, and starts to keep it up to date. If the
    /// disk does not allow it now, the thread tries again later. `on_event` gets the reason when a text index is thrown away.
    pub(crate) fn start(
        path: &Path,
        logs: Logs,
        on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>,
    ) -> rusqlite::Result<Self> {
        let messages = connection::open_reader(path)?;
        let published = Arc::default();
        let mut keeper = Keeper {
            path: path.to_owned(),
            messages,
            index: None,
            published: Arc::clone(&published),
            log: beside(&file::path_of(path), "-wal"),
            logs,
            verified: None,
            on_event,
        };
        // If that fails now, the thread tries again.
        let _ = keeper.open();
        let (suspect, suspicions) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("sqlite-search".to_owned())
            .spawn(move || keeper.run(&suspicions))
            .expect("a thread can be started while the program starts");
        Ok(Self { published, running: Mutex::new(Some((suspect, thread))) })
    }

    /// Returns the file that is the text index now.
    pub(crate) fn published(&self) -> Published {
        *lock(&self.published)
    }

    /// Has the text index checked soon, and rebuilt if it is damaged.
    pub(crate) fn suspect(&self) {
        if let Some((suspect, _)) = &*lock(&self.running) {
            // One suspicion that waits is enough. If the thread has ended, the next start checks.
            let _ = suspect.try_send(Suspicion);
        }
    }

    /// Ends the thread, which closes its files; waits for its transaction, some ten milliseconds.
    pub(crate) fn close(&self) {
        let running = lock(&self.running).take();
        if let Some((suspect, thread)) = running {
            drop(suspect);
            // A panic of the thread was printed when it happened; the next start repairs what it left.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// State of the thread.
struct Keeper {
    path: PathBuf,
    messages: Connection,
    /// `None` while it can't be opened.
    index: Option<Connection>,
    published: Arc<Mutex<Published>>,
    /// File of its write-ahead log.
    log: PathBuf,
    logs: Logs,
    /// Time of the last check of the whole text index.
    verified: Option<Instant>,
    on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>,
}

impl Keeper {
    fn run(mut self, suspicions: &Receiver<Suspicion>) {
        // If it may not lower its priority, it competes with everything else, and does the same work.
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
                        // With a new one searches know at once which messages it lacks.
                        let _ = self.open();
                    }
                    RETRY_AFTER
                }
            };
            self.bound_log(&mut log_keeper);
            if !wait.is_zero()
                && let Some(index) = &self.index
            {
                // Page caches that are not needed any more.
                let _ = index.release_memory().and_then(|()| self.messages.release_memory());
            }
        }
    }

    /// Opens the text index if it is not open. One that is damaged, or was made from other messages, is rebuilt.
    fn open(&mut self) -> Result<(), Trouble> {
        if self.index.is_some() {
            return Ok(());
        }
        let look = || {
            let mut index = file::open(&self.path)?;
            let fits = file::fits(&index.transaction()?, &self.messages)?;
            Ok((index, fits))
        };
        let index = match look() {
            Ok((index, true)) => index,
            Ok((index, false)) => {
                drop(index);
                self.throw_away("it was made from other messages, or by another version");
                file::open(&self.path)?
            }
            Err(Trouble::Index(error)) => {
                self.throw_away(&error.to_string());
                file::open(&self.path)?
            }
            Err(Trouble::Elsewhere) => return Err(Trouble::Elsewhere),
        };
        self.index = Some(index);
        self.publish(true);
        Ok(())
    }

    /// Removes the text index, and has read connections close it.
    fn throw_away(&mut self, why: &str) {
        self.index = None;
        self.publish(false);
        // If it can't be removed, the next start finds it as it is.
        if file::remove(&self.path).is_ok() {
            (self.on_event)(StoreEvent::SearchIndexRebuilt { why: why.to_owned() });
        }
    }

    fn publish(&self, is_there: bool) {
        let mut published = lock(&self.published);
        published.generation += 1;
        published.is_there = is_there;
    }

    /// Indexes some messages, and takes out expired ones; returns true if there may be more.
    fn keep_up(&mut self) -> Result<bool, Trouble> {
        let Some(index) = &mut self.index else {
            return Ok(false);
        };
        // With its low priority it may read from the log of the messages for long.
        let reading = self.logs.messages.search();
        // Begins before messages are read: messages that are deleted later are also taken out later than this.
        let tx = index.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let searched_seq = tx.query_row("SELECT searched_seq FROM progress", [], |row| row.get(0))?;
        let of_messages = || {
            let (expired_seq, _) = totals::purged_and_last(&self.messages)?;
            Ok((expired_seq, Batch::read(&self.messages, searched_seq)?))
        };
        let (expired_seq, batch) = of_messages().map_err(Trouble::of_messages)?;
        drop(reading);
        let is_behind = index_batch(tx, batch)?;
        let n_purged = purge_batch(index, expired_seq)?;
        Ok(is_behind || n_purged == PURGE_BATCH_MESSAGES)
    }

    fn bound_log(&self, keeper: &mut LogKeeper) {
        // SQLite moves it by itself, a thousand pages at a time, but while searches overlap it does not restart.
        let log_bytes = fs::metadata(&self.log).map_or(0, |log| log.len());
        let Some(index) = self.index.as_ref().filter(|_| log_bytes >= HELD_BYTES) else {
            keeper.keep(0, || false);
            return;
        };
        let n_pages = index.query_row("PRAGMA wal_checkpoint(passive)", [], |row| row.get(1));
        // Empties its file too: otherwise it would stay long until the next write. After an error SQLite tries again itself.
        keeper.keep(n_pages.unwrap_or(0), || move_log(index, Checkpoint::Truncate).unwrap_or(false));
    }

    /// Checks at a start that some messages are found by their texts. Checking all of them would take too long.
    fn compare_sample(&mut self) -> Result<bool, Trouble> {
        let missing = match &mut self.index {
            Some(index) => verify::missing_in_sample(&index.transaction()?, &self.messages)?,
            None => None,
        };
        if let Some(seq) = missing {
            self.throw_away(&format!("it does not find message {seq}"));
        }
        Ok(true)
    }

    /// Checks all of it, but not again and again: the messages may be what is damaged.
    fn verify(&mut self) -> Result<bool, Trouble> {
        let is_known = self.verified.is_some_and(|verified| verified.elapsed() < VERIFY_EVERY_MIN);
        if is_known || self.index.is_none() {
            return Ok(true);
        }
        self.verified = Some(Instant::now());
        // Uses a connection of its own, with an empty cache.
        let mut index = connection::open_reader(&file::path_of(&self.path))?;
        let damages = verify::damages(&index.transaction()?)?;
        if let Some(damage) = damages.first() {
            self.throw_away(damage);
        }
        Ok(true)
    }
}

/// Reason why the thread can't go on.
enum Trouble {
    /// The text index is damaged, or not one of ours.
    Index(rusqlite::Error),
    /// The disk, another process or the messages fail; the text index may be sound.
    Elsewhere,
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        if is_passing(&error) { Self::Elsewhere } else { Self::Index(error) }
    }
}

impl Trouble {
    /// Sorts a failed read of the messages.
    fn of_messages(_: rusqlite::Error) -> Self {
        Self::Elsewhere
    }
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
        crate::sqlite::open::open_and_migrate(&path).unwrap();
        let keeper = Keeper {
            messages: connection::open_reader(&path).unwrap(),
            index: Some(file::open(&path).unwrap()),
            published: Arc::default(),
            log: beside(&file::path_of(&path), "-wal"),
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
