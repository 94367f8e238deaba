//! The storage ports on embedded SQLite, in one file of the disk.
//!
//! One thread writes (`writer`) and gathers whatever waits into one commit (`group_commit`); a pool of
//! read-only connections answers questions beside it (`reader`). Write-ahead logging lets both go on at once.

mod arm;
mod arrivals;
mod backup;
mod batch;
mod check;
mod check_indexes;
mod checkpoints;
mod deletion;
mod error;
mod event;
mod expiry;
mod export;
mod group_commit;
mod inbox;
mod key_archive;
mod key_filter;
mod last_backup;
mod listing;
mod location;
mod log_gate;
mod page_cache;
mod presence;
mod private;
mod ranking;
mod reader;
mod restore;
mod row;
mod run;
mod schema;
mod search;
mod search_check;
mod sender_counts;
mod start_lock;
mod start_progress;
mod statistics;
mod tail;
mod time_counts;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::message::NewMessage;
use domain::query::{Filter, Listing, MessageQuery, Page, Stats};
use domain::signature::BodyDigest;
use domain::store::{Appended, MessageStore, StoreError, StoreErrorKind};
use rustix::fs::StatVfs;

pub use arrivals::Keep;
pub use backup::{BackupError, backup};
pub use check::{CheckError, Problem, Report, check};
pub use deletion::{DeleteError, Deleted, Doomed, delete};
pub use event::Event;
pub use expiry::Expiry;
pub use export::{ExportError, export};
pub use restore::{RestoreError, restore};
pub use schema::{Denied, OpenError, SCHEMA_VERSION};
pub use writer::{BATCH_MESSAGES_MAX, QUEUE_BYTES_MAX, QUEUE_DELIVERIES_MAX};

use group_commit::Queue;
use inbox::Inbox;
use log_gate::{LogKeeper, Logs};
use presence::Presence;
use reader::Reader;
use search::SearchIndex;
use tail::Tail;
use writer::{Order, Orders};

/// A store in one SQLite database.
pub struct SqliteStore {
    path: PathBuf,
    queue: Queue,
    orders: Orders,
    reader: Reader,
    search: Arc<SearchIndex>,
    presence: Arc<Presence>,
}

/// SHA-256. It comes as an argument, since digests are another adapter's matter.
pub type Digest = fn(&[u8]) -> BodyDigest;

/// How to open a store.
pub struct SqliteOptions {
    /// The database file; it, its folder and its schema are made if they are not there.
    pub path: PathBuf,
    /// Makes the digests of the ledger of keys: always the same for one database.
    pub digest: Digest,
    /// Most messages of one commit; [`BATCH_MESSAGES_MAX`] but for measurements of what it gains.
    pub batch_messages_max: usize,
    /// Called after each commit, on the thread that writes: must be quick.
    pub on_commit: Box<dyn Fn(CommitReport) + Send>,
    /// Called when something has happened by itself, on the thread where it did: must be quick.
    pub on_event: Arc<dyn Fn(Event) + Send + Sync>,
}

/// One try to commit.
#[derive(Clone, Copy, Debug)]
pub struct CommitReport {
    /// How many messages it was about, repeats included.
    pub messages: usize,
    /// From the start of the transaction to its end.
    pub took: Duration,
    /// Whether it came to be.
    pub ok: bool,
}

/// What a store takes up.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Deliveries that wait for a commit.
    pub queue_depth: usize,
    /// Size of all files of the database: its own, its write-ahead log, the index of texts.
    pub store_bytes: u64,
    /// Size of the write-ahead log.
    pub wal_bytes: u64,
    /// What is left on its file system for a process that is not root's.
    pub disk_free_bytes: u64,
    /// Size of its file system.
    pub disk_size_bytes: u64,
    /// How long after 1970 the last backup was made.
    pub last_backup: Option<Duration>,
}

impl SqliteStore {
    /// Opens the database, brings its schema up to date and starts to take messages.
    ///
    /// # Errors
    /// [`OpenError`]; a database made by a newer version is left as it is.
    pub fn open(mut options: SqliteOptions) -> Result<Self, OpenError> {
        let (path, _alone) = schema::prepare(&options.path)?;
        options.path.clone_from(&path);
        let sqlite = |source| OpenError::Sqlite { path: path.clone(), source };
        (options.on_event)(Event::StartGoesOn);
        let mut db = schema::open(&path)?;
        start_progress::tell(&db, Arc::clone(&options.on_event)).map_err(sqlite)?;
        schema::migrate(&mut db, &path)?;
        let tail = Tail::new(options.digest);
        let inbox = Inbox::open(db, tail.clone()).map_err(sqlite)?;
        start_progress::end(inbox.db()).map_err(sqlite)?;
        let presence =
            Presence::of(&path).map_err(|source| OpenError::Place { path: path.clone(), source })?;
        let presence = Arc::new(presence);
        let logs = Logs::new();
        let search = Arc::new(SearchIndex::start(&path, logs.clone(), Arc::clone(&options.on_event))?);
        let reader = Reader::open(&path, tail, logs.clone(), Arc::clone(&search))?;
        let (queue, orders) =
            writer::start(inbox, Arc::clone(&presence), options, LogKeeper::new(logs.messages));
        Ok(Self { path, queue, orders, reader, search, presence })
    }

    /// Begins to remove these, beside the messages that come in. It goes on until all is removed.
    ///
    /// # Errors
    /// As [`append`](MessageStore::append), of which this is one of nothing.
    pub async fn expire(&self, expiry: Expiry) -> Result<(), StoreError> {
        self.orders.set(Order::Expire(expiry));
        self.queue.append(Vec::new()).await.map(drop)
    }

    /// Notes how far the messages have come by now, and begins to remove what is kept no longer, if the clock can be
    /// trusted ([`Event`] tells if not). Whoever keeps messages for a time calls this once an hour; and whoever may want
    /// to one day, so that there are notes to go by.
    ///
    /// # Errors
    /// As [`append`](MessageStore::append), of which this is one of nothing. It is done with the next commit then.
    pub async fn keep(&self, keep: Keep) -> Result<(), StoreError> {
        self.orders.set(Order::Keep(keep));
        self.queue.append(Vec::new()).await.map(drop)
    }

    /// How many messages the index of texts does not have yet: a search looks through their texts.
    ///
    /// # Errors
    /// As [`list`](MessageQuery::list).
    pub async fn unindexed_texts(&self) -> Result<u64, StoreError> {
        self.reader.unindexed_texts().await
    }

    /// Takes no more messages, commits those that wait, moves the write-ahead log into the database
    /// and closes it. What is appended later fails.
    pub async fn close(&self) {
        let search = Arc::clone(&self.search);
        // First what reads beside the writer: else that could not move all of the log. It does not panic.
        let _ = tokio::task::spawn_blocking(move || search.close()).await;
        self.queue.close().await;
    }

    /// What the store takes up now; what can't be looked at counts as nothing.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        let disk = rustix::fs::statvfs(&self.path);
        let blocks = |n: fn(&StatVfs) -> u64| disk.as_ref().map_or(0, |d| n(d).saturating_mul(d.f_frsize));
        Usage {
            queue_depth: self.queue.depth(),
            store_bytes: private::SUFFIXES.map(|suffix| bytes(&beside(&self.path, suffix))).iter().sum(),
            wal_bytes: bytes(&beside(&self.path, "-wal")),
            disk_free_bytes: blocks(|d| d.f_bavail),
            disk_size_bytes: blocks(|d| d.f_blocks),
            last_backup: last_backup::made_at(&self.path),
        }
    }
}

/// Brings the schema of the database at `path` up to date, making what is not there.
///
/// # Errors
/// [`OpenError`]; a database made by a newer version is left as it is.
pub fn migrate(path: &Path) -> Result<(), OpenError> {
    let (path, _alone) = schema::prepare(path)?;
    let db = schema::open_and_migrate(&path)?;
    // What can't be moved now is moved by the next start.
    let _ = checkpoints::move_all_and_close(&db);
    Ok(())
}

/// Removes those of these files beside the database that are there.
fn remove_beside(path: &Path, suffixes: &[&str]) -> io::Result<()> {
    for suffix in suffixes {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The file that SQLite keeps beside the database under its name and this suffix.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

#[async_trait]
impl MessageStore for SqliteStore {
    async fn append(&self, messages: Vec<NewMessage>) -> Result<Vec<Appended>, StoreError> {
        self.queue.append(messages).await
    }
}

#[async_trait]
impl MessageQuery for SqliteStore {
    async fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError> {
        self.reader.list(filter.clone(), page.clone()).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.reader.stats().await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.reader.ready().await?;
        let lost = |why| StoreError::new(StoreErrorKind::Unavailable, "write", why);
        self.presence.verify().map_err(lost)?;
        self.queue.ready().await
    }
}
