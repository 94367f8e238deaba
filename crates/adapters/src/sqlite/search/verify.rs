//! The checks that the text index makes of itself: that its file is sound, and that it finds some messages by their texts.

use domain::text_query::fold_case;
use rusqlite::{Connection, Transaction};

use crate::sqlite::search::lookup::matching_all;
use crate::sqlite::tables::messages;

/// Texts that are looked up: a tenth of a second of work.
const SAMPLE_TEXTS: i64 = 256;

/// Damages of one kind that are listed.
const DAMAGES_MAX: usize = 10;

/// Returns the damages that SQLite and FTS5 find in the file.
pub(crate) fn damages(index: &Transaction<'_>) -> rusqlite::Result<Vec<String>> {
    let mut statement = index.prepare(&format!("PRAGMA integrity_check({DAMAGES_MAX})"))?;
    let found = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(found.into_iter().filter(|found| found != "ok").collect())
}

/// Looks up some messages all over the text index by their texts; returns one that is not found.
pub(crate) fn missing_in_sample(index: &Transaction<'_>, db: &Connection) -> rusqlite::Result<Option<i64>> {
    let (purged_seq, searched_seq) = bounds(index)?;
    let step = ((searched_seq - purged_seq) / SAMPLE_TEXTS).max(1);
    let mut find = index.prepare("SELECT 1 FROM texts WHERE texts MATCH ?1 AND rowid = ?2")?;
    let mut after_seq = purged_seq;
    while after_seq < searched_seq {
        let Some((seq, text)) = messages::next_text(db, after_seq, searched_seq)? else {
            break;
        };
        if let Some(trigrams) = matching_all(&fold_case(&text))
            && !find.exists((trigrams, seq))?
        {
            return Ok(Some(seq));
        }
        after_seq = seq + step - 1;
    }
    Ok(None)
}

/// Returns the last message that was taken out, and the last that was taken in.
pub(crate) fn bounds(index: &Transaction<'_>) -> rusqlite::Result<(i64, i64)> {
    index.query_row("SELECT purged_seq, searched_seq FROM progress", [], |row| Ok((row.get(0)?, row.get(1)?)))
}
