//! The part of a check that compares the text index with the messages.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use crate::sqlite::connection;
use crate::sqlite::error::is_passing;
use crate::sqlite::search::file;
use crate::sqlite::search::verify::{bounds, damages, missing_in_sample};
use crate::sqlite::upkeep::report::{PROBLEMS_OF_A_KIND_MAX, Problem, Report};

/// Opens the text index of a database for reading; `None` if there is none, which is no damage.
pub(crate) fn open(messages: &Connection) -> rusqlite::Result<Option<Connection>> {
    let path = messages.path().map(|path| file::path_of(Path::new(path)));
    path.filter(|path| path.exists()).map(|path| connection::open_reader(&path)).transpose()
}

/// Adds the problems of the text index. Its snapshot is older than that of the messages: messages that were taken out of it
/// since then do not count as missing.
pub(crate) fn examine(
    index: &Transaction<'_>,
    messages: &Transaction<'_>,
    report: &mut Report,
) -> rusqlite::Result<()> {
    let found = match differences(index, messages) {
        // Any fault of its tables is damage, too.
        Err(error) if !is_passing(&error) => vec![error.to_string()],
        found => found?,
    };
    report.problems.extend(found.into_iter().map(Problem::SearchIndex));
    Ok(())
}

fn differences(index: &Transaction<'_>, messages: &Transaction<'_>) -> rusqlite::Result<Vec<String>> {
    let damages = damages(index)?;
    if !damages.is_empty() {
        return Ok(damages);
    }
    if !file::fits(index, messages)? {
        return Ok(vec!["it was made from other messages".to_owned()]);
    }
    let missing = missing(index, messages)?;
    if !missing.is_empty() {
        return Ok(missing.iter().map(|seq| format!("it does not have message {seq}")).collect());
    }
    let not_found = missing_in_sample(index, messages)?;
    Ok(not_found.iter().map(|seq| format!("it does not find message {seq}")).collect())
}

/// Returns the first messages that have a text, should be in the text index, and are not.
fn missing(index: &Transaction<'_>, messages: &Transaction<'_>) -> rusqlite::Result<Vec<i64>> {
    let (purged_seq, searched_seq) = bounds(index)?;
    let mut indexed = index.prepare("SELECT id FROM texts_docsize ORDER BY id")?;
    let mut indexed = indexed.query_map([], |row| row.get::<_, i64>(0))?.peekable();
    let mut wanted = messages
        .prepare("SELECT seq FROM messages WHERE seq > ?1 AND seq <= ?2 AND text IS NOT NULL ORDER BY seq")?;
    let mut missing = Vec::new();
    for seq in wanted.query_map([purged_seq, searched_seq], |row| row.get::<_, i64>(0))? {
        let seq = seq?;
        while indexed.next_if(|id| id.as_ref().is_ok_and(|id| *id < seq)).is_some() {}
        match indexed.next_if(|id| id.as_ref().map_or(true, |id| *id == seq)).transpose()? {
            Some(_) => {}
            None if missing.len() < PROBLEMS_OF_A_KIND_MAX => missing.push(seq),
            None => break,
        }
    }
    Ok(missing)
}
