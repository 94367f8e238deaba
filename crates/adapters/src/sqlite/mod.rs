//! The storage ports on embedded SQLite: one file on disk, and a text index beside it.
//!
//! One thread writes, and gathers whatever waits into one commit (`write`). A pool of read-only connections answers queries
//! at the same time (`read`); write-ahead logging lets both go on at once.

mod columns;
mod connection;
mod error;
mod files;
mod open;
mod options;
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
use domain::event::StoreEvent;
use domain::message::NewMessage;
use domain::query::{Filter, Listing, MessageQuery, Page, Stats};
use domain::retention::{MessageExpiry, Retention};
use domain::store::{Appended, MessageStore, StoreError, StoreErrorKind};
use domain::time::Timestamp;
use domain::usage::{StoreUsage, Usage};
use rustix::fs::StatVfs;

pub use files::permissions::Denied;
pub use open::OpenError;
pub use options::SqliteOptions;
pub use schema::newest_schema;
pub use upkeep::backup::{BackupError, backup};
pub use upkeep::check::check;
pub use upkeep::delete::{DeleteError, Deleted, Doomed, delete};
pub use upkeep::export::{ExportError, export};
pub use upkeep::report::{Problem, Report};
pub use upkeep::restore::{RestoreError, restore};
pub use upkeep::snapshot::CheckError;
pub use write::expiry::Expiry;
pub use write::writer::{BATCH_MESSAGES_MAX, QUEUE_APPENDS_MAX, QUEUE_BYTES_MAX};

use files::presence::Presence;
use files::{beside, last_backup, private};
use read::reader::Reader;
use search::indexer::SearchIndex;
use tail::Tail;
use wal::checkpoint;
use wal::gate::{LogKeeper, Logs};
use write::arrival_notes::Keep;
use write::group_commit::Queue;
use write::transaction::WriteConnection;
use write::writer::{self, Order};

/// A store in one SQLite database.
pub struct SqliteStore {
    path: PathBuf,
    queue: Queue<Order>,
    reader: Reader,
    search: Arc<SearchIndex>,
    presence: Arc<Presence>,
}

impl SqliteStore {
    /// Opens the database, brings its schema up to date and starts to take messages.
    ///
    /// # Errors
    /// [`OpenError`]; a database made by a newer version is left as it is.
    pub fn open(mut options: SqliteOptions) -> Result<Self, OpenError> {
        let (path, _alone) = open::prepare(&options.path)?;
        options.path.clone_from(&path);
        let sqlite = |source| OpenError::Sqlite { path: path.clone(), source };
        (options.on_event)(StoreEvent::StartGoesOn);
        let mut db = open::open(&path)?;
        start_progress::tell(&db, Arc::clone(&options.on_event)).map_err(sqlite)?;
        open::migrate(&mut db, &path)?;
        let tail = Tail::default();
        let db = WriteConnection::open(db, tail.clone()).map_err(sqlite)?;
        start_progress::end(db.db()).map_err(sqlite)?;
        let presence =
            Presence::of(&path).map_err(|source| OpenError::Place { path: path.clone(), source })?;
        let presence = Arc::new(presence);
        let logs = Logs::new();
        let search =
            Arc::new(SearchIndex::start(&path, logs.clone(), Arc::clone(&options.on_event)).map_err(sqlite)?);
        let reader = Reader::open(&path, tail, logs.clone(), Arc::clone(&search))?;
        let queue = writer::start(db, Arc::clone(&presence), options, LogKeeper::new(logs.messages));
        Ok(Self { path, queue, reader, search, presence })
    }

    /// Begins to remove messages and keys up to these places, beside the messages that come in, until all are removed.
    ///
    /// # Errors
    /// As [`append`](MessageStore::append).
    pub async fn expire_to(&self, expiry: Expiry) -> Result<(), StoreError> {
        self.queue.order(Order::Expire(expiry)).await
    }

    /// Takes no more messages, commits those that wait, moves the write-ahead log into the database and closes it. Later
    /// appends fail.
    pub async fn close(&self) {
        let search = Arc::clone(&self.search);
        // First the thread that reads beside the writer: otherwise the writer could not move all of the log.
        let _ = tokio::task::spawn_blocking(move || search.close()).await;
        self.queue.close().await;
    }
}

/// Brings the schema of the database at `path` up to date; creates the database if there is none.
///
/// # Errors
/// [`OpenError`]; a database made by a newer version is left as it is.
pub fn migrate(path: &Path) -> Result<(), OpenError> {
    let (path, _alone) = open::prepare(path)?;
    let db = open::open_and_migrate(&path)?;
    // The next start moves what can't be moved now.
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
        self.queue.order(Order::Keep(Keep { now, retention })).await
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
            queue_capacity: QUEUE_APPENDS_MAX,
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
