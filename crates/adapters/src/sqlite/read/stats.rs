//! The statistics, from numbers that are kept up to date as messages come in.

use std::collections::HashMap;

use domain::message::PhoneNumber;
use domain::query::Stats;
use rusqlite::Transaction;

use crate::sqlite::columns::parse;
use crate::sqlite::order::RowKey;
use crate::sqlite::tables::entry::{Entry, Stretch};
use crate::sqlite::tables::totals::Totals;
use crate::sqlite::tables::{by_time, messages, senders, top_senders};
use crate::sqlite::tail::Tail;

/// Returns the statistics of a snapshot, which begins here.
pub(crate) fn stats(tx: &Transaction<'_>, tail: &Tail) -> rusqlite::Result<Stats> {
    let unindexed = tail.unindexed(tx)?;
    let totals = Totals::read(tx)?;
    let busiest = match top_senders::read(tx)? {
        Some(busiest) => busiest,
        None => senders::busiest(tx, per_sender(&unindexed))?,
    };
    let top_senders = busiest.into_iter().map(|(sender, n)| Ok((parse(0, sender, PhoneNumber::stored)?, n)));
    let top_senders = top_senders.collect::<rusqlite::Result<_>>()?;

    let first = by_time::first(tx, unindexed.after_seq)?;
    let last = by_time::last(tx, unindexed.after_seq)?;
    // In one pass: the tail may have some ten thousand messages.
    let indexed = [&first, &last].into_iter().flatten().map(RowKey::list_key);
    let span = unindexed.iter().map(Entry::list_key).chain(indexed).fold(None, |span, key| match span {
        None => Some((key, key)),
        Some((first, last)) => Some((key.min(first), key.max(last))),
    });
    Ok(Stats {
        total_messages: unsigned(1, totals.message_count)?,
        senders_count: unsigned(2, totals.sender_count)?,
        top_senders,
        first_message_ts: span.map(|((.., seq), _)| messages::sent_at(tx, seq)).transpose()?,
        last_message_ts: span.map(|(_, (.., seq))| messages::sent_at(tx, seq)).transpose()?,
    })
}

fn per_sender(unindexed: &Stretch) -> HashMap<&str, u64> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for Entry { sender, .. } in unindexed.iter() {
        *counts.entry(sender).or_default() += 1;
    }
    counts
}

fn unsigned(column: usize, n: i64) -> rusqlite::Result<u64> {
    u64::try_from(n).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, n))
}
