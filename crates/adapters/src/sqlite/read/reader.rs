//! Questions, each one read transaction on a read-only connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::query::{Filter, Listing, Page, Stats, TextQuery};
use domain::store::{StoreError, StoreErrorKind};
use r2d2::{ManageConnection, Pool};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sqlite::error::{is_damage, store_error};
use crate::sqlite::read::listing::list;
use crate::sqlite::read::stats::stats;
use crate::sqlite::schema;
use crate::sqlite::schema::{OpenError, SCHEMA_VERSION};
use crate::sqlite::search::file as search;
use crate::sqlite::search::file::{Published, SearchIndex};
use crate::sqlite::tail::Tail;
use crate::sqlite::wal::gate::{Logs, Searching};

/// Look-ups answered at once. They compete with the writer for the same cores and disk.
const LOOK_UPS_MAX: u32 = 4;

/// Searches ([`Filter::is_search`]) answered at once, which take up to ten thousand times as long: a look-up never
/// waits for one.
const SEARCHES_MAX: u32 = 4;

/// How long a question waits for its turn.
const READ_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long one question may take. While it does, the write-ahead log can't begin anew.
pub(crate) const READ_TIME_MAX: Duration = Duration::from_secs(10);

/// Steps of SQLite's virtual machine between two looks at the clock: some hundred rows, which take a
/// millisecond, or a hundred of them if each has a long text to be searched.
const STEPS_PER_LOOK: i32 = 1_000;

pub(crate) struct Reader {
    tail: Tail,
    search: Arc<SearchIndex>,
    pool: Pool<Connections>,
    logs: Logs,
    look_ups: Turns,
    searches: Turns,
    ready_turn: Turns,
}

/// How many questions of a kind are answered at once.
struct Turns {
    turns: Arc<Semaphore>,
    /// What searches wait for beside their turn.
    logs: Option<Logs>,
}

/// A question's turn. Of a search, that it is under way, too.
type Turn = (OwnedSemaphorePermit, Option<[Searching; 2]>);

impl Turns {
    fn new(n: u32, logs: Option<Logs>) -> Self {
        Self { turns: Arc::new(Semaphore::new(n as usize)), logs }
    }

    async fn take(&self) -> Option<Turn> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let Some(Logs { messages, texts }) = &self.logs else {
            return Some((turn, None));
        };
        messages.opened().await;
        texts.opened().await;
        Some((turn, Some([messages.search(), texts.search()])))
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
        // One more than questions have turns: readiness has a turn of its own and never waits for a slow one.
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
            look_ups: Turns::new(LOOK_UPS_MAX, None),
            searches: Turns::new(SEARCHES_MAX, Some(logs.clone())),
            ready_turn: Turns::new(1, None),
            logs,
        })
    }

    pub(crate) async fn list(&self, filter: Filter, page: Page) -> Result<Listing, StoreError> {
        let tail = self.tail.clone();
        let turns = if filter.is_search(&page) { &self.searches } else { &self.look_ups };
        self.in_turn(turns, "list messages", move |tx| list(tx, &tail, &filter, &page)).await
    }

    pub(crate) async fn stats(&self) -> Result<Stats, StoreError> {
        let tail = self.tail.clone();
        self.in_turn(&self.look_ups, "read statistics", move |tx| stats(tx, &tail)).await
    }

    pub(crate) async fn unindexed_texts(&self) -> Result<u64, StoreError> {
        self.in_turn(&self.look_ups, "look at the index of texts", search::unindexed).await
    }

    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "read the schema version";
        let look = |tx: &Transaction<'_>| {
            tx.prepare_cached("SELECT seq FROM messages LIMIT 1")?.exists([])?;
            schema::version(tx)
        };
        let found = self.in_turn(&self.ready_turn, OPERATION, look).await?;
        if found != SCHEMA_VERSION {
            let why = format!("it is {found}, not {SCHEMA_VERSION}");
            return Err(StoreError::new(StoreErrorKind::Fault, OPERATION, why));
        }
        Ok(())
    }

    /// Asks on another thread. If nobody waits for the answer any more, the question ends soon, and its turn with it.
    async fn in_turn<T: Send + 'static>(
        &self,
        turns: &Turns,
        operation: &'static str,
        question: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Ok(Some((turn, search))) = tokio::time::timeout(READ_WAIT_MAX, turns.take()).await else {
            return Err(StoreError::new(StoreErrorKind::Busy, operation, "too many questions at once"));
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
                    answer(&mut reading.db, &logs, is_gone, question).map_err(|error| {
                        if is_damage(&error) {
                            index.suspect();
                        }
                        store_error(operation, error)
                    })
                });
            drop(search);
            // The turn ends when the answer is taken, so that answers do not pile up.
            (turn, result)
        });
        match answer.await {
            Ok((_turn, result)) => result,
            Err(e) => Err(StoreError::new(StoreErrorKind::Fault, operation, e.to_string())),
        }
    }
}

/// Whoever waits for an answer. It is gone once this is dropped.
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

/// Makes the connections of the pool.
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
                schema::prepare_reader(db)?;
                register_text_contains(db)
            });
        Self { messages, path: path.to_owned(), search }
    }
}

/// A connection that reads the messages, and an index of texts.
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
        if index.is_there && search::attach(&db, &self.path).is_err() {
            // It is not there any more, or damaged. Questions can do without.
            self.search.suspect();
        }
        Ok(Reading { db, index })
    }

    /// Its index is that which is kept up to date now.
    fn is_valid(&self, reading: &mut Reading) -> rusqlite::Result<()> {
        if reading.index == self.search.published() { Ok(()) } else { Err(rusqlite::Error::InvalidQuery) }
    }

    fn has_broken(&self, reading: &mut Reading) -> bool {
        self.messages.has_broken(&mut reading.db)
    }
}

/// One snapshot, within bounded time.
fn answer<T>(
    db: &mut Connection,
    logs: &Logs,
    is_gone: impl Fn() -> bool + Send + 'static,
    question: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let deadline = Instant::now() + READ_TIME_MAX;
    let (is_cut_off, is_cut_off_too) = (logs.messages.is_cut_off(), logs.texts.is_cut_off());
    let is_over = move || is_gone() || is_cut_off() || is_cut_off_too() || Instant::now() > deadline;
    db.progress_handler(STEPS_PER_LOOK, Some(is_over))?;
    let tx = db.transaction()?;
    let answer = question(&tx)?;
    tx.finish()?;
    Ok(answer)
}

/// SQL: `text_contains(text, folded)`, as [`TextQuery::matches`] says; null contains nothing.
pub(crate) fn register_text_contains(db: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    db.create_scalar_function("text_contains", 2, flags, |ctx| {
        let query = ctx.get_or_create_aux(1, |folded| {
            folded.as_str().map(|folded| TextQuery::from_folded(folded.to_owned()))
        })?;
        match ctx.get_raw(0) {
            ValueRef::Null => Ok(false),
            text => Ok(query.matches(text.as_str()?)),
        }
    })
}
