//! The part of a check that reads the file, the messages, and the counts of messages and senders.

use domain::query::TOP_SENDERS_MAX;
use rusqlite::types::ValueRef;
use rusqlite::{Row, Transaction};

use crate::digest::sha256;
use crate::sqlite::tables::senders::INDEXED_COUNT;
use crate::sqlite::upkeep::report::{PROBLEMS_OF_A_KIND_MAX, Problem, Report};

/// Checks the file. SQLite leaves out CHECK constraints on a connection that can only read; ours are about the lengths of
/// digests and about counts, which the other parts check.
pub(crate) fn integrity(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
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

pub(crate) fn references(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = tx.prepare("PRAGMA foreign_key_check")?;
    let problem =
        |row: &Row<'_>| Ok(Problem::Reference { table: row.get(0)?, row: row.get(1)?, parent: row.get(2)? });
    for problem in statement.query_map([], problem)?.take(PROBLEMS_OF_A_KIND_MAX) {
        report.problems.push(problem?);
    }
    Ok(())
}

/// Reads the table itself, not an index of it: so it also counts the messages that the other parts must agree with.
pub(crate) fn bodies(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
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

pub(crate) fn totals(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
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

/// Checks the counts both ways: a sender without messages, and messages without a sender. Before version 3 all messages were
/// counted; since then only indexed ones are.
pub(crate) fn sender_counts(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
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
    let problem = |row: &Row<'_>| {
        Ok(Problem::SenderCount { sender: row.get(0)?, counted: row.get(1)?, rows: row.get(2)? })
    };
    for problem in statement.query_map([PROBLEMS_OF_A_KIND_MAX], problem)? {
        report.problems.push(problem?);
    }
    Ok(())
}

pub(crate) fn ranking(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
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

/// Returns true if the busiest senders are recorded: after some expiries they are not known for a while.
fn is_ranked(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    if !tx.column_exists(None, "totals", "is_ranked")? {
        return Ok(true);
    }
    tx.query_row("SELECT coalesce(max(is_ranked), 1) FROM totals", [], |row| row.get(0))
}
