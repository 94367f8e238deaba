//! Queries: each is one read transaction on a read-only connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::query::{Filter, Listing, Page, Stats};
use domain::store::{StoreError, StoreErrorKind};
use r2d2::{ManageConnection, Pool};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sqlite::connection;
use crate::sqlite::error::{is_damage, store_error};
use crate::sqlite::open::OpenError;
use crate::sqlite::read::listing::list;
use crate::sqlite::read::stats::stats;
use crate::sqlite::read::text_contains;
use crate::sqlite::schema::{self, newest_schema};
use crate::sqlite::search::file;
use crate::sqlite::search::indexer::{Published, SearchIndex};
use crate::sqlite::tables::messages;
use crate::sqlite::tail::Tail;
use crate::sqlite::wal::gate::{Logs, READ_TIME_MAX, Searching};

/// Look-ups that run at once. They compete with the writer for the same cores and disk.
const LOOK_UPS_MAX: u32 = 4;

/// Searches ([`Filter::is_search`]) that run at once. They take up to ten thousand times as long: a look-up never waits for
/// one.
const SEARCHES_MAX: u32 = 4;

/// Time that a query waits for its permit.
const READ_WAIT_MAX: Duration = Duration::from_secs(2);

/// Steps of SQLite's virtual machine between two looks at the clock: some hundred rows, which take a millisecond, or a hundred
/// milliseconds if each has a long text.
const STEPS_PER_LOOK: i32 = 1_000;

pub(crate) struct Reader {
    tail: Tail,
    search: Arc<SearchIndex>,
    pool: Pool<Connections>,
    logs: Logs,
    look_ups: Permits,
    searches: Permits,
    probes: Permits,
}

/// Permits for the queries of one kind that run at once.
struct Permits {
    permits: Arc<Semaphore>,
    /// Logs whose gates searches wait for as well.
    logs: Option<Logs>,
}

/// Permit of one query; that of a search also counts as a running search.
type Permit = (OwnedSemaphorePermit, Option<[Searching; 2]>);

impl Permits {
    fn new(n: u32, logs: Option<Logs>) -> Self {
        Self { permits: Arc::new(Semaphore::new(n as usize)), logs }
    }

    async fn take(&self) -> Option<Permit> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let Some(Logs { messages, texts }) = &self.logs else {
            return Some((permit, None));
        };
        messages.opened().await;
        texts.opened().await;
        Some((permit, Some([messages.search(), texts.search()])))
    }
}

impl Reader {
    pub(crate) fn open(
        path: &Path,
        tail: Tail,
        logs: Logs,
        search: Arc<SearchIndex>,
    ) -> Result<Self, OpenError> {
        let connections = Connections::new(path, Arc::clone(&search));
        // One more than queries have permits: readiness has a permit of its own and never waits for a slow query.
        let pool = Pool::builder()
            .max_size(LOOK_UPS_MAX + SEARCHES_MAX + 1)
            .test_on_check_out(true)
            .idle_timeout(None)
            .max_lifetime(None)
            .connection_timeout(READ_WAIT_MAX)
            .build(connections)
            .map_err(|source| OpenError::Pool { path: path.to_owned(), source })?;
        Ok(Self {
            tail,
            search,
            pool,
            look_ups: Permits::new(LOOK_UPS_MAX, None),
            searches: Permits::new(SEARCHES_MAX, Some(logs.clone())),
            probes: Permits::new(1, None),
            logs,
        })
    }

    pub(crate) async fn list(&self, filter: Filter, page: Page) -> Result<Listing, StoreError> {
        let tail = self.tail.clone();
        let permits = if filter.is_search(&page) { &self.searches } else { &self.look_ups };
        self.run(permits, "list messages", move |tx| list(tx, &tail, &filter, &page)).await
    }

    pub(crate) async fn stats(&self) -> Result<Stats, StoreError> {
        let tail = self.tail.clone();
        self.run(&self.look_ups, "read statistics", move |tx| stats(tx, &tail)).await
    }

    pub(crate) async fn unindexed_texts(&self) -> Result<u64, StoreError> {
        self.run(&self.look_ups, "read the text index", file::unindexed).await
    }

    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "read the schema version";
        let look = |tx: &Transaction<'_>| {
            messages::try_read(tx)?;
            schema::version(tx)
        };
        let found = self.run(&self.probes, OPERATION, look).await?;
        let known = newest_schema();
        if found != known {
            let why = format!("it is {found}, not {known}");
            return Err(StoreError::new(StoreErrorKind::Fault, OPERATION, why));
        }
        Ok(())
    }

    /// Runs a query on another thread. If nobody waits for the answer any more, the query ends soon and releases its permit.
    async fn run<T: Send + 'static>(
        &self,
        permits: &Permits,
        operation: &'static str,
        query: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Ok(Some((permit, search))) = tokio::time::timeout(READ_WAIT_MAX, permits.take()).await else {
            return Err(StoreError::new(StoreErrorKind::Busy, operation, "too many queries at once"));
        };
        let (pool, index) = (self.pool.clone(), Arc::clone(&self.search));
        let logs = self.logs.clone();
        let caller = Caller::default();
        let is_gone = caller.is_gone();
        let answer = tokio::task::spawn_blocking(move || {
            let result = pool
                .get()
                .map_err(|e| StoreError::new(StoreErrorKind::Unavailable, operation, e.to_string()))
                .and_then(|mut reading| {
                    answer(&mut reading.db, &logs, is_gone, query).map_err(|error| {
                        if is_damage(&error) {
                            index.suspect();
                        }
                        store_error(operation, error)
                    })
                });
            drop(search);
            // The permit is held until the answer is taken, so that answers do not pile up.
            (permit, result)
        });
        match answer.await {
            Ok((_permit, result)) => result,
            Err(e) => Err(StoreError::new(StoreErrorKind::Fault, operation, e.to_string())),
        }
    }
}

/// The caller that waits for an answer. It is gone once this is dropped.
#[derive(Default)]
struct Caller(Arc<AtomicBool>);

impl Caller {
    fn is_gone(&self) -> impl Fn() -> bool + Send + use<> {
        let is_gone = Arc::clone(&self.0);
        move || is_gone.load(Ordering::Relaxed)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens the connections of the pool.
struct Connections {
    messages: SqliteConnectionManager,
    path: PathBuf,
    search: Arc<SearchIndex>,
}

impl Connections {
    fn new(path: &Path, search: Arc<SearchIndex>) -> Self {
        let messages = SqliteConnectionManager::file(path)
            .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .with_init(|db| {
                connection::prepare_reader(db)?;
                text_contains::register(db)
            });
        Self { messages, path: path.to_owned(), search }
    }
}

/// A connection that reads the messages, with a text index attached.
struct Reading {
    db: Connection,
    index: Published,
}

impl ManageConnection for Connections {
    type Connection = Reading;
    type Error = rusqlite::Error;

    fn connect(&self) -> rusqlite::Result<Reading> {
        let index = self.search.published();
        let db = self.messages.connect()?;
        if index.is_there && file::attach(&db, &self.path).is_err() {
            // It is gone or damaged. Queries work without it.
            self.search.suspect();
        }
        Ok(Reading { db, index })
    }

    /// Checks that its text index is the one that is kept up to date now.
    fn is_valid(&self, reading: &mut Reading) -> rusqlite::Result<()> {
        if reading.index == self.search.published() { Ok(()) } else { Err(rusqlite::Error::InvalidQuery) }
    }

    fn has_broken(&self, reading: &mut Reading) -> bool {
        self.messages.has_broken(&mut reading.db)
    }
}

/// Answers a query from one snapshot, within bounded time.
fn answer<T>(
    db: &mut Connection,
    logs: &Logs,
    is_gone: impl Fn() -> bool + Send + 'static,
    query: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let deadline = Instant::now() + READ_TIME_MAX;
    let (is_cut_off, is_cut_off_too) = (logs.messages.is_cut_off(), logs.texts.is_cut_off());
    let is_over = move || is_gone() || is_cut_off() || is_cut_off_too() || Instant::now() > deadline;
    db.progress_handler(STEPS_PER_LOOK, Some(is_over))?;
    let tx = db.transaction()?;
    let answer = query(&tx)?;
    tx.finish()?;
    Ok(answer)
}
