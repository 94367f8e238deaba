//! Whether the index of texts is what it should be: sound in itself, and of these messages.

use std::path::Path;

use domain::query::fold_case;
use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::sqlite::error::is_passing;
use crate::sqlite::schema;
use crate::sqlite::search::file as search;
use crate::sqlite::upkeep::check::{PROBLEMS_OF_A_KIND_MAX, Problem, Report};

/// Texts that are looked up to tell whether the index has them: a tenth of a second of work.
const SAMPLE_TEXTS: i64 = 256;

/// The index of a database, only to read it; `None` if there is none, which is no damage.
pub(crate) fn open(messages: &Connection) -> rusqlite::Result<Option<Connection>> {
    let path = messages.path().map(|path| search::path_of(Path::new(path)));
    path.filter(|path| path.exists()).map(|path| schema::open_reader(&path)).transpose()
}

/// Adds what is wrong with the index. Its snapshot is older than that of the messages: what was taken out of it since
/// does not count as missing.
pub(crate) fn examine(
    index: &Transaction<'_>,
    messages: &Transaction<'_>,
    report: &mut Report,
) -> rusqlite::Result<()> {
    let found = match differences(index, messages) {
        // Whatever is wrong with its tables is damage, too.
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
    if !search::fits(index, messages)? {
        return Ok(vec!["it was made from other messages".to_owned()]);
    }
    let missing = missing(index, messages)?;
    if !missing.is_empty() {
        return Ok(missing.iter().map(|seq| format!("it does not have message {seq}")).collect());
    }
    let not_found = missing_in_sample(index, messages)?;
    Ok(not_found.iter().map(|seq| format!("it does not find message {seq}")).collect())
}

/// What SQLite and FTS5 find wrong with the file.
pub(crate) fn damages(index: &Transaction<'_>) -> rusqlite::Result<Vec<String>> {
    let mut statement = index.prepare(&format!("PRAGMA integrity_check({PROBLEMS_OF_A_KIND_MAX})"))?;
    let found = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(found.into_iter().filter(|found| found != "ok").collect())
}

/// The first messages that have a text, should be in the index, and are not.
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

/// A message that is not found by its text: of some all over the index.
pub(crate) fn missing_in_sample(
    index: &Transaction<'_>,
    messages: &Connection,
) -> rusqlite::Result<Option<i64>> {
    let (purged_seq, searched_seq) = bounds(index)?;
    let step = ((searched_seq - purged_seq) / SAMPLE_TEXTS).max(1);
    let mut next = messages.prepare(
        "SELECT seq, text FROM messages WHERE seq > ?1 AND seq <= ?2 AND text IS NOT NULL ORDER BY seq LIMIT 1",
    )?;
    let mut find = index.prepare("SELECT 1 FROM texts WHERE texts MATCH ?1 AND rowid = ?2")?;
    let mut after_seq = purged_seq;
    while after_seq < searched_seq {
        let found: Option<(i64, String)> =
            next.query_row([after_seq, searched_seq], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((seq, text)) = found else {
            break;
        };
        if let Some(trigrams) = search::matching_all(&fold_case(&text))
            && !find.exists((trigrams, seq))?
        {
            return Ok(Some(seq));
        }
        after_seq = seq + step - 1;
    }
    Ok(None)
}

/// The last message that was taken out, and the last that was taken in.
fn bounds(index: &Transaction<'_>) -> rusqlite::Result<(i64, i64)> {
    index.query_row("SELECT purged_seq, searched_seq FROM progress", [], |row| Ok((row.get(0)?, row.get(1)?)))
}
