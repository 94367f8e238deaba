//! What is stored, in numbers that are kept as messages come in.

use domain::message::{PhoneNumber, SentAt};
use domain::query::Stats;
use rusqlite::{OptionalExtension, Transaction};

use crate::sqlite::order::{RowPlace, parse, parsed};
use crate::sqlite::tables::senders::busiest;
use crate::sqlite::tables::top_senders as ranking;
use crate::sqlite::tail::{Entry, Tail};

pub(crate) fn stats(tx: &Transaction<'_>, tail: &Tail) -> rusqlite::Result<Stats> {
    let unindexed = tail.unindexed(tx)?;
    let (total_messages, senders_count) = tx
        .prepare_cached("SELECT message_count, sender_count FROM totals")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let busiest = ranking::told(tx)?.map_or_else(|| busiest(tx, &unindexed), Ok)?;
    let top_senders = busiest.into_iter().map(|(sender, n)| Ok((parse(0, sender, PhoneNumber::stored)?, n)));
    let top_senders = top_senders.collect::<rusqlite::Result<_>>()?;

    let first = first_indexed(tx, unindexed.after_seq, "ts_us, ts_finer, message_id, seq")?;
    let last =
        first_indexed(tx, unindexed.after_seq, "ts_us DESC, ts_finer DESC, message_id DESC, seq DESC")?;
    // In one pass: the tail may have some ten thousand messages.
    let indexed = [&first, &last].into_iter().flatten().map(RowPlace::place);
    let span = unindexed.iter().map(Entry::place).chain(indexed).fold(None, |span, place| match span {
        None => Some((place, place)),
        Some((first, last)) => Some((place.min(first), place.max(last))),
    });
    let ts = |seq| {
        let mut ts = tx.prepare_cached("SELECT ts FROM messages WHERE seq = ?1")?;
        ts.query_row([seq], |row| parsed(row, 0, SentAt::stored))
    };
    Ok(Stats {
        total_messages,
        senders_count,
        top_senders,
        first_message_ts: span.map(|((.., seq), _)| ts(seq)).transpose()?,
        last_message_ts: span.map(|(_, (.., seq))| ts(seq)).transpose()?,
    })
}

/// The place of the first indexed message in this order.
fn first_indexed(tx: &Transaction<'_>, indexed_seq: i64, order: &str) -> rusqlite::Result<Option<RowPlace>> {
    tx.prepare_cached(&format!(
        "SELECT ts_us, ts_finer, message_id, seq FROM messages_by_time WHERE seq <= ?1 \
         ORDER BY {order} LIMIT 1"
    ))?
    .query_row([indexed_seq], RowPlace::read)
    .optional()
}
