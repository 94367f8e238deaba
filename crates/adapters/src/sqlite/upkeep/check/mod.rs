//! Whether a database is what it should be, in one read snapshot: beside a running server too.
//!
//! Nothing here writes, and nothing compares the parsed columns of a message with its body.

mod indexes;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::digest::sha256;
use domain::query::TOP_SENDERS_MAX;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Transaction};

use crate::sqlite::error::is_damage;
use crate::sqlite::files::location;
use crate::sqlite::schema;
use crate::sqlite::schema::{Denied, SCHEMA_VERSION};
use crate::sqlite::search::check as search_check;
use crate::sqlite::tables::senders::INDEXED_COUNT;
use crate::sqlite::upkeep::check::indexes::{indexes, key_filters, keys, register_message_key, time_counts};

/// Problems of one kind that are told: who mends the first ten looks again.
pub(crate) const PROBLEMS_OF_A_KIND_MAX: usize = 10;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Messages, counted one by one.
    pub messages: u64,
    /// Distinct senders of these.
    pub senders: u64,
    /// The version of the schema; 0 without one.
    pub schema_version: i32,
    /// What is wrong: nothing, or at most ten of a kind.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no schema of ours.
    #[error("it is not a database of hookkeeper")]
    NoSchema,
    /// The schema is of a newer version, of which nothing else is known.
    #[error("its schema version is {0}, made by a newer hookkeeper: this one knows up to {SCHEMA_VERSION}")]
    Newer(i32),
    /// SQLite finds that the file is damaged, or that a row breaks a rule of its table.
    #[error("damaged: {0}")]
    Damaged(String),
    /// A row refers to another that is not there.
    #[error("row {row} of {table} refers to a row of {parent} that is not there")]
    Reference {
        /// The table of the row.
        table: String,
        /// Its number.
        row: i64,
        /// Where it refers to.
        parent: String,
    },
    /// The totals are not one row.
    #[error("there are {0} rows of totals, not one")]
    Totals(u64),
    /// The total of messages does not agree with the rows.
    #[error("total of messages is {counted}, there are {rows}")]
    MessageTotal {
        /// What is recorded.
        counted: i64,
        /// What there is.
        rows: u64,
    },
    /// The total of senders does not agree with the rows.
    #[error("total of senders is {counted}, there are {rows}")]
    SenderTotal {
        /// What is recorded.
        counted: i64,
        /// What there is.
        rows: u64,
    },
    /// The count of one sender does not agree with the rows; either may be 0, for not there.
    #[error("count of sender {sender} is {counted}, there are {rows} messages")]
    SenderCount {
        /// The sender.
        sender: String,
        /// What is recorded.
        counted: i64,
        /// What there is.
        rows: u64,
    },
    /// The busiest senders are others than the counts say.
    #[error("the ranking of the busiest senders does not agree with their counts")]
    Ranking,
    /// A message is not in the ledger or an index that should have it.
    #[error("message {seq} is not in {index}")]
    NotIndexed {
        /// The table.
        index: &'static str,
        /// The place of the message in the order of arrival.
        seq: i64,
    },
    /// The ledger or an index has entries that it should not have.
    #[error("{index} has {entries} entries for {messages} messages")]
    IndexCount {
        /// The table.
        index: &'static str,
        /// How many there are of indexed messages.
        entries: u64,
        /// How many messages are indexed.
        messages: u64,
    },
    /// One message is stored twice.
    #[error("messages {first} and {second} have the same source and id")]
    Doubled {
        /// The place of the first in the order of arrival.
        first: i64,
        /// The place of the last.
        second: i64,
    },
    /// What is recorded of the order of arrival can't be.
    #[error("the last message is {seq_max}, recorded are {last_seq}, and {indexed_seq} as indexed")]
    Places {
        /// What is recorded as the last place.
        last_seq: i64,
        /// What is recorded as the last one that is in the indexes.
        indexed_seq: i64,
        /// The last one that there is.
        seq_max: i64,
    },
    /// The stored filter of a segment is none, or does not know all its keys.
    #[error("the filter of segment {segment} leaves out keys")]
    KeyFilter {
        /// The segment.
        segment: i64,
    },
    /// A count by time does not agree with the messages, or with the counts below it.
    #[error("count of messages by time is wrong: level {level}, span {span}")]
    TimeCount {
        /// The level of the span.
        level: u32,
        /// The span.
        span: i64,
    },
    /// The index of texts is damaged, or leaves out messages. It is not in a backup, and a start makes it anew.
    #[error(
        "the index of texts: {0} (stop the server, remove the file that ends in -search, and start: it is made anew)"
    )]
    SearchIndex(String),
    /// A body is not the one that was received, or its digest is not.
    #[error("body of message {seq} does not agree with its digest")]
    Body {
        /// The place of the message in the order of arrival.
        seq: i64,
    },
}

/// Why a database can't be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It is not there.
    #[error("there is no database at {0}")]
    NotThere(PathBuf),
    /// There is a folder in its place.
    #[error("there is no database at {0}: it is a folder, name a file in it")]
    IsFolder(PathBuf),
    /// This user may not read it.
    #[error("{0}")]
    Denied(Denied),
    /// SQLite can't open or read it.
    #[error("cannot read database at {path}: {source}")]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, senders, schema_version, problems } = self;
        write!(f, "messages {messages}, senders {senders}, schema version {schema_version}: ")?;
        match problems.as_slice() {
            [] => f.write_str("ok"),
            [_] => f.write_str("1 problem"),
            _ => write!(f, "{} problems", problems.len()),
        }?;
        problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Checks all that can be checked without another copy: the file, the references, the counts both
/// ways, and each body by its digest. Reads all of it; a server may write meanwhile.
///
/// # Errors
/// [`CheckError`], if it can't be read. Damage is not an error but a [`Problem`].
pub fn check(path: &Path) -> Result<Report, CheckError> {
    let mut db = open(path)?;
    let mut look = || {
        let mut index = search_check::open(&db)?;
        // Before the messages: so it has none that they do not have yet.
        let index = index.as_mut().map(snapshot).transpose()?;
        let tx = snapshot(&mut db)?;
        let mut report = examine(&tx)?;
        // Before version 2 there was none.
        if let Some(index) = index.filter(|_| report.schema_version >= 2) {
            search_check::examine(&index, &tx, &mut report)?;
        }
        Ok(report)
    };
    look().map_err(cannot_read(path))
}

/// Opens a database that is there, only to read it.
pub(crate) fn open(path: &Path) -> Result<Connection, CheckError> {
    let path = location::resolve(path)
        .ok()
        .filter(|found| found.exists())
        .ok_or_else(|| CheckError::NotThere(path.to_owned()))?;
    if path.is_dir() {
        return Err(CheckError::IsFolder(path));
    }
    if let Some(denied) = Denied::reading(&path) {
        return Err(CheckError::Denied(denied));
    }
    schema::open_reader(&path).map_err(cannot_read(&path))
}

pub(crate) fn cannot_read(path: &Path) -> impl FnOnce(rusqlite::Error) -> CheckError {
    let path = path.to_owned();
    move |source| CheckError::Sqlite { path, source }
}

/// A view of the database that holds all that was committed before, and nothing that comes later.
pub(crate) fn snapshot(db: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    let tx = db.transaction()?;
    // SQLite takes the snapshot with the first read. If it fails by damage, so will the next one.
    let _ = or_damage(tx.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))?;
    Ok(tx)
}

/// The schema version, or why nothing can be said about what is in the database.
pub(crate) fn known_version(tx: &Transaction<'_>) -> rusqlite::Result<Result<i32, Problem>> {
    Ok(or_damage(schema::version(tx))?.and_then(|version| match version {
        0 => Err(Problem::NoSchema),
        1..=SCHEMA_VERSION => Ok(version),
        _ => Err(Problem::Newer(version)),
    }))
}

type Part = fn(&Transaction<'_>, &mut Report) -> rusqlite::Result<()>;

/// All checks on one snapshot.
pub(crate) fn examine(tx: &Transaction<'_>) -> rusqlite::Result<Report> {
    let mut report = Report { messages: 0, senders: 0, schema_version: 0, problems: Vec::new() };
    let version = match known_version(tx)? {
        Ok(version) => version,
        Err(problem) => {
            report.problems.push(problem);
            return Ok(report);
        }
    };
    report.schema_version = version;
    register_message_key(tx)?;
    let mut run = |parts: &[Part]| -> rusqlite::Result<()> {
        for part in parts {
            if let Err(problem) = or_damage(part(tx, &mut report))? {
                report.problems.push(problem);
            }
        }
        Ok(())
    };
    run(&[integrity, references, bodies, totals, sender_counts, ranking])?;
    // Before version 2 there were none of these. Without totals it can't be told how far they should go.
    if version >= 2 && has_totals(tx)? {
        run(&[indexes, keys, time_counts])?;
    }
    // Those of version 2 are of another form, and are made anew when it is brought up to date.
    if version >= 3 {
        run(&[key_filters])?;
    }
    report.problems.dedup();
    Ok(report)
}

/// While messages expire, there is none.
fn is_ranked(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    if !tx.column_exists(None, "totals", "is_ranked")? {
        return Ok(true);
    }
    tx.query_row("SELECT coalesce(max(is_ranked), 1) FROM totals", [], |row| row.get(0))
}

fn has_totals(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    Ok(or_damage(tx.prepare("SELECT 1 FROM totals").and_then(|mut s| s.exists([])))?.unwrap_or(false))
}

/// Sorts errors: that the file is damaged is what a check is there to find.
fn or_damage<T>(result: rusqlite::Result<T>) -> rusqlite::Result<Result<T, Problem>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if is_damage(&error) => Ok(Err(Problem::Damaged(error.to_string()))),
        Err(error) => Err(error),
    }
}

/// SQLite leaves out CHECK constraints on a connection that can only read. Ours are about lengths of
/// digests and counts, which the other parts look at.
fn integrity(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = tx.prepare(&format!("PRAGMA integrity_check({PROBLEMS_OF_A_KIND_MAX})"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let found: String = row.get(0)?;
        if found != "ok" {
            report.problems.push(Problem::Damaged(found));
        }
    }
    Ok(())
}

fn references(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = tx.prepare("PRAGMA foreign_key_check")?;
    let problem = |row: &rusqlite::Row<'_>| {
        Ok(Problem::Reference { table: row.get(0)?, row: row.get(1)?, parent: row.get(2)? })
    };
    for problem in statement.query_map([], problem)?.take(PROBLEMS_OF_A_KIND_MAX) {
        report.problems.push(problem?);
    }
    Ok(())
}

/// Walks the table itself, not an index of it: so this is also the count that others must agree with.
fn bodies(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = tx.prepare("SELECT seq, body_sha256, body FROM messages ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let mut n_wrong = 0;
    while let Some(row) = rows.next()? {
        report.messages += 1;
        let agrees = match (row.get_ref(1)?, row.get_ref(2)?) {
            (ValueRef::Blob(stored), ValueRef::Blob(body)) => sha256(body).0 == stored,
            _ => false,
        };
        if !agrees && n_wrong < PROBLEMS_OF_A_KIND_MAX {
            n_wrong += 1;
            report.problems.push(Problem::Body { seq: row.get(0)? });
        }
    }
    Ok(())
}

fn totals(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    report.senders = tx.query_row("SELECT count(DISTINCT sender) FROM messages", [], |row| row.get(0))?;
    // Without a row, the aggregates are null.
    let (n_rows, messages, senders): (u64, Option<i64>, Option<i64>) =
        tx.query_row("SELECT count(*), max(message_count), max(sender_count) FROM totals", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let (1, Some(messages), Some(senders)) = (n_rows, messages, senders) else {
        report.problems.push(Problem::Totals(n_rows));
        return Ok(());
    };
    if u64::try_from(messages) != Ok(report.messages) {
        report.problems.push(Problem::MessageTotal { counted: messages, rows: report.messages });
    }
    if u64::try_from(senders) != Ok(report.senders) {
        report.problems.push(Problem::SenderTotal { counted: senders, rows: report.senders });
    }
    Ok(())
}

/// Both ways: a sender without messages, and messages without a sender. Before version 3 all messages were counted,
/// since then those that are indexed.
fn sender_counts(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let is_by_run = tx.column_exists(None, "senders", "run_seq")?;
    let (count, counted) = match is_by_run {
        true => (INDEXED_COUNT, "WHERE seq <= (SELECT indexed_seq FROM totals)"),
        false => ("message_count", ""),
    };
    let mut statement = tx.prepare(&format!(
        "WITH counts AS (SELECT sender, {count} AS n_counted FROM senders), \
              found AS (SELECT sender, count(*) AS n_rows FROM messages {counted} GROUP BY sender) \
         SELECT sender, coalesce(n_counted, 0), coalesce(n_rows, 0) FROM counts FULL JOIN found USING (sender) \
         WHERE coalesce(n_counted, 0) <> coalesce(n_rows, 0) ORDER BY sender LIMIT ?1"
    ))?;
    let problem = |row: &rusqlite::Row<'_>| {
        Ok(Problem::SenderCount { sender: row.get(0)?, counted: row.get(1)?, rows: row.get(2)? })
    };
    for problem in statement.query_map([PROBLEMS_OF_A_KIND_MAX], problem)? {
        report.problems.push(problem?);
    }
    Ok(())
}

fn ranking(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let read = |sql: &str| {
        tx.prepare(&format!("{sql} ORDER BY 2 DESC, 1 LIMIT ?1"))?
            .query_map([TOP_SENDERS_MAX + 1], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, i64)>>>()
    };
    if !is_ranked(tx)? {
        return Ok(());
    }
    let mut want = read("SELECT sender, count(*) FROM messages GROUP BY sender")?;
    want.truncate(TOP_SENDERS_MAX.into());
    if read("SELECT sender, message_count FROM top_senders")? != want {
        report.problems.push(Problem::Ranking);
    }
    Ok(())
}
