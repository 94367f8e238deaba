//! The part of a check that compares the ledger, the indexes and the counts by time with the messages.

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Row, Transaction, params};

use crate::sqlite::tables::key_filter::{Key, KeyFilter, SEGMENT_BITS};
use crate::sqlite::tables::key_filter_blocks::{Shape, incomplete};
use crate::sqlite::tables::keys::key;
use crate::sqlite::tables::time_counts::{LEVEL_BITS, LEVELS, SPAN_BITS};
use crate::sqlite::upkeep::report::{PROBLEMS_OF_A_KIND_MAX, Problem, Report};

/// Registers the SQL function `message_key(source_id, message_id)`: the key that the ledger has.
pub(crate) fn register_message_key(db: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    db.create_scalar_function("message_key", 2, flags, move |ctx| {
        Ok(key(ctx.get(0)?, ctx.get_raw(1).as_str()?))
    })
}

/// Checks that every indexed message is in the ledger and the indexes, and that these have no others.
pub(crate) fn indexes(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let segment = format!("m.seq >> {SEGMENT_BITS}");
    for (index, is_entry, may_have_more) in [
        (
            "message_keys",
            format!("i.segment = {segment} AND i.key = message_key(m.source_id, m.message_id)"),
            true,
        ),
        (
            "messages_by_time",
            "(i.ts_us, i.ts_finer, i.message_id) = (m.ts_us, m.ts_finer, m.message_id)".to_owned(),
            false,
        ),
        (
            "messages_by_sender",
            format!(
                "(i.segment, i.sender, i.ts_us, i.ts_finer, i.message_id) = \
                 ({segment}, m.sender, m.ts_us, m.ts_finer, m.message_id)"
            ),
            false,
        ),
    ] {
        let mut missing = tx.prepare(&format!(
            "SELECT seq FROM messages AS m WHERE seq <= (SELECT indexed_seq FROM totals) AND NOT EXISTS \
                (SELECT 1 FROM {index} AS i WHERE {is_entry} AND i.seq = m.seq) LIMIT ?1"
        ))?;
        let problem = |row: &Row<'_>| Ok(Problem::NotIndexed { index, seq: row.get(0)? });
        for problem in missing.query_map([PROBLEMS_OF_A_KIND_MAX], problem)? {
            report.problems.push(problem?);
        }
        let (entries, messages): (u64, u64) = tx.query_row(
            &format!(
                "SELECT (SELECT count(*) FROM {index} WHERE seq <= indexed_seq), \
                        (SELECT count(*) FROM messages WHERE seq <= indexed_seq) FROM totals"
            ),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if entries != messages && !(may_have_more && entries > messages) {
            report.problems.push(Problem::IndexCount { index, entries, messages });
        }
    }
    Ok(())
}

/// Checks that no two messages have one key, whether the ledger has it yet or not.
pub(crate) fn keys(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let mut doubled = tx.prepare(
        "SELECT min(seq), max(seq) FROM \
            (SELECT key, seq FROM message_keys \
             UNION SELECT message_key(source_id, message_id), seq FROM messages \
                   WHERE seq > (SELECT indexed_seq FROM totals)) \
         GROUP BY key HAVING count(*) > 1 LIMIT ?1",
    )?;
    let problem = |row: &Row<'_>| Ok(Problem::Doubled { first: row.get(0)?, second: row.get(1)? });
    for problem in doubled.query_map([PROBLEMS_OF_A_KIND_MAX], problem)? {
        report.problems.push(problem?);
    }
    let (last_seq, indexed_seq, seq_max): (i64, i64, i64) = tx.query_row(
        "SELECT last_seq, indexed_seq, (SELECT coalesce(max(seq), 0) FROM messages) FROM totals",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    if last_seq < seq_max || indexed_seq > last_seq {
        report.problems.push(Problem::Places { last_seq, indexed_seq, seq_max });
    }
    Ok(())
}

/// Checks the key filters: a filter that lacks a key would let a second message with that key in.
pub(crate) fn key_filters(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let mut filters = tx.prepare("SELECT segment, key_filter FROM segments")?;
    let mut keys = tx.prepare("SELECT key FROM message_keys WHERE segment = ?1")?;
    let mut rows = filters.query([])?;
    let mut n_wrong = 0;
    while let Some(row) = rows.next()? {
        let segment: i64 = row.get(0)?;
        let mut filter = KeyFilter::default();
        let mut is_whole = filter.set_column(segment, row.get_ref(1)?.as_blob()?);
        let mut keys = keys.query(params![segment])?;
        while let Some(row) = keys.next()?.filter(|_| is_whole) {
            let key: Key = row.get(0)?;
            is_whole = filter.candidates(&key).next().is_some();
        }
        if !is_whole && n_wrong < PROBLEMS_OF_A_KIND_MAX {
            n_wrong += 1;
            report.problems.push(Problem::KeyFilter { segment });
        }
    }
    if tx.table_exists(None, "key_filter_blocks")? {
        let incomplete = incomplete(tx, Shape::default())?.into_iter().take(PROBLEMS_OF_A_KIND_MAX);
        report.problems.extend(incomplete.map(|segment| Problem::KeyFilter { segment }));
    }
    Ok(())
}

/// Checks that the lowest level agrees with the messages, and each other level with the one below it.
pub(crate) fn time_counts(tx: &Transaction<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let counted = "SELECT span, message_count AS n FROM time_counts WHERE level = ?1";
    for level in 0..LEVELS {
        let below = if level == 0 {
            format!(
                "SELECT ts_us >> {SPAN_BITS} AS span, count(*) AS n FROM messages_by_time \
                 WHERE seq <= (SELECT indexed_seq FROM totals) GROUP BY 1"
            )
        } else {
            format!(
                "SELECT span >> {LEVEL_BITS} AS span, sum(message_count) AS n FROM time_counts \
                 WHERE level = ?1 - 1 GROUP BY 1"
            )
        };
        let mut wrong = tx.prepare(&format!(
            "SELECT coalesce(c.span, b.span) FROM ({counted}) AS c FULL JOIN ({below}) AS b ON c.span = b.span \
             WHERE c.n IS NOT b.n LIMIT ?2"
        ))?;
        let problem = |row: &Row<'_>| Ok(Problem::TimeCount { level, span: row.get(0)? });
        for problem in wrong.query_map(params![level, PROBLEMS_OF_A_KIND_MAX], problem)? {
            report.problems.push(problem?);
        }
    }
    Ok(())
}
