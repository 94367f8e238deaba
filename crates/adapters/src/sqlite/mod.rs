//! The storage ports on embedded SQLite, in one file of the disk.
//!
//! One thread writes (`writer`) and gathers whatever waits into one commit (`group_commit`); a pool of
//! read-only connections answers questions beside it (`reader`). Write-ahead logging lets both go on at once.

mod error;
mod files;
mod order;
mod read;
mod schema;
mod search;
mod start_progress;
mod tables;
mod tail;
mod upkeep;
mod wal;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use domain::event::{CommitReport, StoreEvent};
use domain::message::NewMessage;
use domain::query::{Filter, Listing, MessageQuery, Page, Stats};
use domain::retention::{MessageExpiry, Retention};
use domain::store::{Appended, MessageStore, StoreError, StoreErrorKind};
use domain::time::Timestamp;
use domain::usage::{StoreUsage, Usage};
use rustix::fs::StatVfs;

pub use schema::{Denied, OpenError, SCHEMA_VERSION};
pub use upkeep::backup::{BackupError, backup};
pub use upkeep::check::{CheckError, Problem, Report, check};
pub use upkeep::delete::{DeleteError, Deleted, Doomed, delete};
pub use upkeep::export::{ExportError, export};
pub use upkeep::restore::{RestoreError, restore};
pub use write::expiry::Expiry;
pub use write::writer::{BATCH_MESSAGES_MAX, QUEUE_BYTES_MAX, QUEUE_DELIVERIES_MAX};

use files::presence::Presence;
use files::{beside, private};
use read::reader::Reader;
use search::file::SearchIndex;
use tables::arrivals::Keep;
use tail::Tail;
use upkeep::last_backup;
use wal::checkpoint;
use wal::gate::{LogKeeper, Logs};
use write::group_commit::Queue;
use write::transaction::Inbox;
use write::writer::{self, Order, Orders};

/// A store in one SQLite database.
pub struct SqliteStore {
    path: PathBuf,
    queue: Queue,
    orders: Orders,
    reader: Reader,
    search: Arc<SearchIndex>,
    presence: Arc<Presence>,
}

/// How to open a store.
pub struct SqliteOptions {
    /// The database file; it, its folder and its schema are made if they are not there.
    pub path: PathBuf,
    /// Most messages of one commit; [`BATCH_MESSAGES_MAX`] but for measurements of what it gains.
    pub batch_messages_max: usize,
    /// Called after each commit, on the thread that writes: must be quick.
    pub on_commit: Box<dyn Fn(CommitReport) + Send>,
    /// Called when something has happened by itself, on the thread where it did: must be quick.
    pub on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>,
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
        (options.on_event)(StoreEvent::StartGoesOn);
        let mut db = schema::open(&path)?;
        start_progress::tell(&db, Arc::clone(&options.on_event)).map_err(sqlite)?;
        schema::migrate(&mut db, &path)?;
        let tail = Tail::default();
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
    pub async fn expire_to(&self, expiry: Expiry) -> Result<(), StoreError> {
        self.orders.set(Order::Expire(expiry));
        self.queue.append(Vec::new()).await.map(drop)
    }

    /// Takes no more messages, commits those that wait, moves the write-ahead log into the database
    /// and closes it. What is appended later fails.
    pub async fn close(&self) {
        let search = Arc::clone(&self.search);
        // First what reads beside the writer: else that could not move all of the log. It does not panic.
        let _ = tokio::task::spawn_blocking(move || search.close()).await;
        self.queue.close().await;
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
    let _ = checkpoint::move_all_and_close(&db);
    Ok(())
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

#[async_trait]
impl MessageExpiry for SqliteStore {
    async fn expire(&self, retention: Retention, now: Timestamp) -> Result<(), StoreError> {
        self.orders.set(Order::Keep(Keep { now, retention }));
        self.queue.append(Vec::new()).await.map(drop)
    }
}

#[async_trait]
impl StoreUsage for SqliteStore {
    fn usage(&self) -> Usage {
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        let disk = rustix::fs::statvfs(&self.path);
        let blocks = |n: fn(&StatVfs) -> u64| disk.as_ref().map_or(0, |d| n(d).saturating_mul(d.f_frsize));
        Usage {
            queue_depth: self.queue.depth(),
            queue_capacity: QUEUE_DELIVERIES_MAX,
            store_bytes: private::SUFFIXES.map(|suffix| bytes(&beside(&self.path, suffix))).iter().sum(),
            wal_bytes: bytes(&beside(&self.path, "-wal")),
            disk_free_bytes: blocks(|d| d.f_bavail),
            disk_size_bytes: blocks(|d| d.f_blocks),
            last_backup: last_backup::made_at(&self.path),
        }
    }

    async fn unindexed_texts(&self) -> Result<u64, StoreError> {
        self.reader.unindexed_texts().await
    }
}
