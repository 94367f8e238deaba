//! Questions, each one read transaction on a read-only connection.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::message::{MessageId, MessageKey, MessageText, PhoneNumber, Rule, SentAt};
use domain::query::{Filter, Listing, Message, Page, Stats, TextQuery};
use domain::source::SourceName;
use domain::store::{Seq, StoreError, StoreErrorKind};
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params_from_iter};
use tokio::sync::Semaphore;

use super::error::store_error;
use super::schema::{self, OpenError, SCHEMA_VERSION};

/// Questions answered at once. They compete with the writer for the same cores and disk.
const READS_MAX: u32 = 4;

/// How long a question waits for its turn.
const READ_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long one question may take. While it does, the write-ahead log can't be cut back.
const READ_TIME_MAX: Duration = Duration::from_secs(10);

/// Steps of SQLite's virtual machine between two looks at the clock: some hundred rows, which take a
/// millisecond, or a hundred of them if each has a long text to be searched.
const STEPS_PER_LOOK: i32 = 1_000;

/// The order of listing, which `messages_by_time` and `messages_by_sender` are in.
const ORDER: &str = "ts_us, ts_finer, message_id, seq";

const ORDER_REVERSED: &str = "ts_us DESC, ts_finer DESC, message_id DESC, seq DESC";

pub(super) struct Reader {
    pool: Pool<SqliteConnectionManager>,
    turns: Arc<Semaphore>,
    ready_turn: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let manager = SqliteConnectionManager::file(path)
            .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY)
            .with_init(|db| {
                schema::prepare_reader(db)?;
                register_text_contains(db)
            });
        // One more than questions have turns: readiness has a turn of its own and never waits for a slow one.
        let pool = Pool::builder()
            .max_size(READS_MAX + 1)
            .test_on_check_out(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connection_timeout(READ_WAIT_MAX)
            .build(manager)
            .map_err(|source| OpenError::Pool { path: path.to_owned(), source })?;
        Ok(Self {
            pool,
            turns: Arc::new(Semaphore::new(READS_MAX as usize)),
            ready_turn: Arc::new(Semaphore::new(1)),
        })
    }

    pub(super) async fn list(&self, filter: Filter, page: Page) -> Result<Listing, StoreError> {
        self.in_turn(&self.turns, "list messages", move |tx| list(tx, &filter, page)).await
    }

    pub(super) async fn stats(&self) -> Result<Stats, StoreError> {
        self.in_turn(&self.turns, "read statistics", stats).await
    }

    pub(super) async fn ready(&self) -> Result<(), StoreError> {
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

    async fn in_turn<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        operation: &'static str,
        question: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = tokio::time::timeout(READ_WAIT_MAX, Arc::clone(turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(StoreError::new(StoreErrorKind::Busy, operation, "too many questions at once"));
        };
        let pool = self.pool.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let result = pool
                .get()
                .map_err(|e| StoreError::new(StoreErrorKind::Unavailable, operation, e.to_string()))
                .and_then(|mut db| answer(&mut db, question).map_err(|e| store_error(operation, e)));
            // The turn goes with the question, not with the caller: one who hangs up frees nothing yet. And it
            // ends when the answer is taken, so that answers do not pile up.
            (turn, result)
        });
        match answer.await {
            Ok((_turn, result)) => result,
            Err(e) => Err(StoreError::new(StoreErrorKind::Fault, operation, e.to_string())),
        }
    }
}

/// One snapshot, within bounded time.
fn answer<T>(
    db: &mut Connection,
    question: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let deadline = Instant::now() + READ_TIME_MAX;
    db.progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() > deadline))?;
    let tx = db.transaction()?;
    let answer = question(&tx)?;
    tx.finish()?;
    Ok(answer)
}

/// SQL: `text_contains(text, folded)`, as [`TextQuery::matches`] says; null contains nothing.
fn register_text_contains(db: &Connection) -> rusqlite::Result<()> {
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

/// `WHERE` for a filter, and the values of its parameters.
fn conditions(filter: &Filter) -> (String, Vec<Value>) {
    let mut parts = Vec::new();
    let mut values = Vec::new();
    if let Some(sender) = &filter.sender {
        parts.push("sender = ?");
        values.push(Value::from(sender.clone()));
    }
    if let Some(since) = &filter.since {
        parts.push("(ts_us, ts_finer) >= (?, ?)");
        values.push(Value::from(since.at().as_micros()));
        values.push(Value::from(since.finer().to_owned()));
    }
    if let Some(text) = &filter.text {
        parts.push("text_contains(text, ?)");
        values.push(Value::from(text.folded().to_owned()));
    }
    let sql = if parts.is_empty() { String::new() } else { format!("WHERE {}", parts.join(" AND ")) };
    (sql, values)
}

fn list(tx: &Transaction<'_>, filter: &Filter, page: Page) -> rusqlite::Result<Listing> {
    let total = total(tx, filter)?;
    let (conditions, mut values) = conditions(filter);
    values.push(Value::from(i64::from(page.limit)));
    values.push(Value::from(i64::try_from(page.offset).unwrap_or(i64::MAX)));
    let sql = format!(
        "SELECT seq, (SELECT name FROM sources WHERE source_id = messages.source_id), message_id, \
                sender, recipient, ts, text \
         FROM messages {conditions} ORDER BY {ORDER} LIMIT ? OFFSET ?"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let messages =
        statement.query_map(params_from_iter(values), message)?.collect::<rusqlite::Result<_>>()?;
    Ok(Listing { messages, total })
}

/// How many messages match. What is counted as it is stored is not counted again.
fn total(tx: &Transaction<'_>, filter: &Filter) -> rusqlite::Result<u64> {
    let (sql, values) = match filter {
        Filter { sender: None, since: None, text: None } => {
            ("SELECT message_count FROM totals".to_owned(), vec![])
        }
        Filter { sender: Some(sender), since: None, text: None } => (
            "SELECT coalesce(sum(message_count), 0) FROM senders WHERE sender = ?".to_owned(),
            vec![Value::from(sender.clone())],
        ),
        _ => {
            let (conditions, values) = conditions(filter);
            (format!("SELECT count(*) FROM messages {conditions}"), values)
        }
    };
    tx.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))
}

fn stats(tx: &Transaction<'_>) -> rusqlite::Result<Stats> {
    let (total_messages, senders_count) = tx
        .prepare_cached("SELECT message_count, sender_count FROM totals")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let top_senders = tx
        .prepare_cached("SELECT sender, message_count FROM top_senders ORDER BY message_count DESC, sender")?
        .query_map([], |row| Ok((parsed(row, 0, PhoneNumber::parse)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let ts = |order: &str| {
        tx.prepare_cached(&format!("SELECT ts FROM messages ORDER BY {order} LIMIT 1"))?
            .query_row([], |row| parsed(row, 0, SentAt::parse))
            .optional()
    };
    Ok(Stats {
        total_messages,
        senders_count,
        top_senders,
        first_message_ts: ts(ORDER)?,
        last_message_ts: ts(ORDER_REVERSED)?,
    })
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        seq: Seq(row.get(0)?),
        key: MessageKey {
            source: SourceName::new(row.get_ref(1)?.as_str()?),
            message_id: parsed(row, 2, MessageId::parse)?,
        },
        sender: parsed(row, 3, PhoneNumber::parse)?,
        recipient: parsed(row, 4, PhoneNumber::parse)?,
        sent_at: parsed(row, 5, SentAt::parse)?,
        text: match row.get_ref(6)? {
            ValueRef::Null => None,
            _ => Some(parsed(row, 6, MessageText::parse)?),
        },
    })
}

/// A text column as the type that it was when it was stored; what breaks the type's rule now was
/// changed by another hand.
fn parsed<T>(row: &Row<'_>, column: usize, parse: fn(String) -> Result<T, Rule>) -> rusqlite::Result<T> {
    parse(row.get(column)?)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

#[cfg(test)]
mod tests {
    use domain::time::ExactTime;

    use super::*;

    /// Every query of the contract walks an index in order: no sort, and no scan but for `q`, which
    /// has to look at every text.
    #[test]
    fn no_query_scans_or_sorts_what_an_index_gives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let db = schema::open_and_migrate(&path).unwrap();
        register_text_contains(&db).unwrap();
        let plan = |sql: &str| -> String {
            let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let n = statement.parameter_count();
            let steps = statement
                .query_map(params_from_iter(vec![Value::Integer(1); n]), |row| row.get::<_, String>(3));
            steps.unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
        };
        let since = Some(ExactTime::parse_utc("2025-01-15T10:00:00Z").unwrap());
        let sender = Some("+1".to_owned());
        for (sender, since, index) in [
            (None, None, "USING INDEX messages_by_time"),
            (None, since.clone(), "USING INDEX messages_by_time ((ts_us,ts_finer)>(?,?))"),
            (sender.clone(), None, "USING INDEX messages_by_sender (sender=?)"),
            (sender, since, "USING INDEX messages_by_sender (sender=? AND (ts_us,ts_finer)>(?,?))"),
        ] {
            let (conditions, _) = conditions(&Filter { sender, since, text: None });
            let page = plan(&format!("SELECT * FROM messages {conditions} ORDER BY {ORDER} LIMIT 1"));
            assert!(page.contains(index), "{conditions}: {page}");
            assert!(!page.contains("TEMP B-TREE"), "{conditions}: {page}");
            if !conditions.is_empty() {
                let count = plan(&format!("SELECT count(*) FROM messages {conditions}"));
                assert!(count.contains("SEARCH messages USING COVERING INDEX"), "{conditions}: {count}");
            }
        }
        for order in [ORDER, ORDER_REVERSED] {
            let extreme = plan(&format!("SELECT ts FROM messages ORDER BY {order} LIMIT 1"));
            assert!(extreme.contains("INDEX messages_by_time") && !extreme.contains("B-TREE"), "{extreme}");
        }
    }
}
