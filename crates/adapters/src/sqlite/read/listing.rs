//! One page of a listing, and how many messages match.

use std::collections::BinaryHeap;

use domain::message::{MessageId, MessageKey, MessageText, PhoneNumber, SentAt};
use domain::query::{Filter, Listing, Message, Page, TextQuery};
use domain::source::SourceName;
use domain::store::Seq;
use domain::time::ExactTime;
use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::{Row, Transaction, params, params_from_iter};

use crate::sqlite::order as row;
use crate::sqlite::order::{RowPlace, finer, parsed};
use crate::sqlite::read::selection::{Arm, indexed, searched};
use crate::sqlite::search::file::Search;
use crate::sqlite::tables::senders::count_indexed;
use crate::sqlite::tables::time_counts;
use crate::sqlite::tail::{Entry, Stretch, Tail};

/// Offsets from which on the way to the first message is looked up and not walked.
const SKIPPED_OFFSET_MIN: u64 = 1_000;

/// Messages of a sender, or since a time, that are looked through one by one whatever is looked for; if there are more,
/// and more than the index of texts is expected to find, that is asked.
const SEARCHED_MESSAGES_MIN: u64 = 10_000;

/// Places that are kept while messages are counted, those of the page and what it leaves out: a megabyte or two.
/// A page beyond these is looked for once all are counted.
const COLLECTED_PLACES_MAX: u64 = 10_000;

pub(crate) fn list(
    tx: &Transaction<'_>,
    tail: &Tail,
    filter: &Filter,
    page: &Page,
) -> rusqlite::Result<Listing> {
    // The index of texts comes first, as it wants to.
    let search = filter.text.as_ref().map(|text| Search::of(tx, text)).transpose()?.flatten();
    let unindexed = tail.unindexed(tx)?;
    let found = find(tx, &unindexed, filter, search)?;
    // One more than the page has room for tells whether there is a next one.
    let limit = u64::from(page.limit) + 1;
    let is_in_one_pass = filter.text.is_some() && limit.saturating_add(page.offset) <= COLLECTED_PLACES_MAX;
    let (mut seqs, total) = if is_in_one_pass {
        collect(tx, &found, page.after.as_ref(), limit, page.offset)?
    } else {
        let total = total(tx, filter, &unindexed, &found)?;
        (page_of(tx, filter, page, &unindexed, found, limit, total)?, total)
    };
    let is_more = seqs.len() > usize::from(page.limit);
    seqs.truncate(page.limit.into());
    let messages: Vec<Message> = seqs.iter().map(|seq| read(tx, *seq)).collect::<rusqlite::Result<_>>()?;
    let next = messages.last().filter(|_| is_more).map(Message::place);
    Ok(Listing { messages, total, next })
}

/// The arrivals of up to `limit` messages of the page, when `total` match.
fn page_of(
    tx: &Transaction<'_>,
    filter: &Filter,
    page: &Page,
    unindexed: &Stretch,
    mut found: Found<'_>,
    limit: u64,
    total: u64,
) -> rusqlite::Result<Vec<i64>> {
    let is_by_time = filter.sender.is_none() && filter.text.is_none();
    match &page.after {
        _ if page.offset >= total => Ok(Vec::new()),
        Some(after) => {
            found.arms = found.arms.into_iter().map(|arm| arm.after(after)).collect();
            let after = place_of(after);
            found.in_tail.retain(|entry| entry.place() > after);
            walk(tx, found, limit, page.offset)
        }
        None if page.offset >= SKIPPED_OFFSET_MIN && is_by_time => {
            let offset_in_all = message_count(tx)? - total + page.offset;
            let unindexed_us: Vec<i64> = unindexed.iter().map(|entry| entry.ts_us).collect();
            let (from_us, skipped) = time_counts::skip(tx, &unindexed_us, offset_in_all)?;
            // Of a span that begins before `since`, the filter leaves out what was not skipped either.
            let is_all_wanted = filter.since.as_ref().is_none_or(|since| since.at().as_micros() < from_us);
            let offset = if is_all_wanted { offset_in_all - skipped } else { page.offset };
            found.arms = found.arms.into_iter().map(|arm| arm.not_before(from_us)).collect();
            found.in_tail.retain(|entry| entry.ts_us >= from_us);
            walk(tx, found, limit, offset)
        }
        None => walk(tx, found, limit, page.offset),
    }
}

fn place_of(place: &domain::query::Place) -> row::Place<'_> {
    let domain::query::Place { sent_at, message_id, seq } = place;
    (sent_at.at().as_micros(), finer(sent_at.finer()), message_id.as_str(), seq.0)
}

/// What a filter wants: what these parts of the database have, and these messages of the tail.
struct Found<'a> {
    arms: Vec<Arm>,
    in_tail: Vec<&'a Entry>,
}

fn find<'a>(
    tx: &Transaction<'_>,
    unindexed: &'a Stretch,
    filter: &Filter,
    search: Option<Search>,
) -> rusqlite::Result<Found<'a>> {
    if let Some(search) = search
        && n_to_look_through(tx, unindexed, filter)? > search.n_expected.max(SEARCHED_MESSAGES_MIN)
    {
        return Ok(Found { arms: searched(filter, search).into(), in_tail: Vec::new() });
    }
    let since = filter.since.as_ref().map(|since| (since.at().as_micros(), finer(since.finer())));
    let is_wanted = |entry: &&Entry| {
        filter.sender.as_deref().is_none_or(|sender| sender == &*entry.sender)
            && since.is_none_or(|since| since <= (entry.ts_us, entry.ts_finer.as_deref()))
    };
    let mut in_tail: Vec<&Entry> = unindexed.iter().filter(is_wanted).collect();
    if let Some(text) = &filter.text {
        in_tail = with_text(tx, in_tail, text)?;
    }
    Ok(Found { arms: vec![indexed(filter, unindexed.after_seq)], in_tail })
}

/// How many indexed messages are to be looked through for a text without the index of texts, at most.
fn n_to_look_through(tx: &Transaction<'_>, unindexed: &Stretch, filter: &Filter) -> rusqlite::Result<u64> {
    let of_sender = filter.sender.as_deref().map(|sender| count_indexed(tx, sender)).transpose()?;
    let since = filter.since.as_ref().map(|since| count_since_span(tx, unindexed, since)).transpose()?;
    Ok(of_sender.into_iter().chain(since).min().unwrap_or(u64::MAX))
}

/// Those of these messages that have it.
fn with_text<'a>(
    tx: &Transaction<'_>,
    entries: Vec<&'a Entry>,
    text: &TextQuery,
) -> rusqlite::Result<Vec<&'a Entry>> {
    let mut has_text =
        tx.prepare_cached("SELECT 1 FROM messages WHERE seq = ?1 AND text_contains(text, ?2)")?;
    let mut found = Vec::new();
    for entry in entries {
        if has_text.exists(params![entry.seq, text.folded()])? {
            found.push(entry);
        }
    }
    Ok(found)
}

/// The same as [`walk`], and how many match in all, in one pass: for what is looked for in texts, which takes long.
fn collect(
    tx: &Transaction<'_>,
    found: &Found<'_>,
    after: Option<&domain::query::Place>,
    limit: u64,
    offset: u64,
) -> rusqlite::Result<(Vec<i64>, u64)> {
    let n_skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    let n_kept = usize::try_from(limit + offset).unwrap_or(usize::MAX);
    let after = after.map(place_of);
    let mut total = 0;
    // The last of those kept is on top.
    let mut first: BinaryHeap<RowPlace> = BinaryHeap::new();
    for arm in &found.arms {
        let (select, values) = arm.select("i.ts_us, i.ts_finer, i.message_id, i.seq");
        let mut select = tx.prepare_cached(&select)?;
        let mut rows = select.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            total += 1;
            let ts_us: i64 = row.get(0)?;
            let is_late = first.len() == n_kept && first.peek().is_some_and(|last| last.place().0 < ts_us);
            if !is_late {
                keep_first(&mut first, n_kept, after, RowPlace::read(row)?);
            }
        }
    }
    for entry in &found.in_tail {
        total += 1;
        keep_first(&mut first, n_kept, after, RowPlace::of(entry.place()));
    }
    let page = first.into_sorted_vec().into_iter().skip(n_skipped).map(|place| place.seq);
    Ok((page.collect(), total))
}

fn keep_first(
    first: &mut BinaryHeap<RowPlace>,
    n_max: usize,
    after: Option<row::Place<'_>>,
    place: RowPlace,
) {
    if after.is_none_or(|after| place.place() > after) {
        first.push(place);
        if first.len() > n_max {
            first.pop();
        }
    }
}

/// The arrivals of the messages in order of time, so many after those that are left out.
fn walk(tx: &Transaction<'_>, found: Found<'_>, limit: u64, offset: u64) -> rusqlite::Result<Vec<i64>> {
    let Found { arms, mut in_tail } = found;
    let n_walked = limit.saturating_add(offset);
    let mut selects = Vec::new();
    let mut values = Vec::new();
    for arm in arms {
        let (select, arm_values) = arm.select("i.ts_us, i.ts_finer, i.message_id, i.seq");
        // Each arm sorts for itself and stops by itself: none is read further than the page could need.
        selects.push(format!("SELECT * FROM ({select} ORDER BY 1, 2, 3, 4 LIMIT ?)"));
        values.extend(arm_values);
        values.push(Value::from(i64::try_from(n_walked).unwrap_or(i64::MAX)));
    }
    let order = if selects.len() > 1 { " ORDER BY 1, 2, 3, 4" } else { "" };
    let mut in_database = tx.prepare_cached(&(selects.join(" UNION ALL ") + order))?;
    let mut in_database = in_database.query_map(params_from_iter(values), RowPlace::read)?;
    let mut row = in_database.next().transpose()?;

    let n_in_tail = usize::try_from(n_walked).unwrap_or(usize::MAX);
    if n_in_tail < in_tail.len() {
        in_tail.select_nth_unstable_by(n_in_tail, |a, b| a.place().cmp(&b.place()));
        in_tail.truncate(n_in_tail);
    }
    in_tail.sort_unstable_by(|a, b| a.place().cmp(&b.place()));
    let mut in_tail = in_tail.into_iter().peekable();

    let mut seqs = Vec::new();
    for n in 0..n_walked {
        let seq = match (&row, in_tail.peek()) {
            (Some(row), entry) if entry.is_none_or(|entry| row.place() < entry.place()) => row.seq,
            (_, Some(entry)) => entry.seq,
            (_, None) => break,
        };
        match &row {
            Some(found) if found.seq == seq => row = in_database.next().transpose()?,
            _ => drop(in_tail.next()),
        }
        if n >= offset {
            seqs.push(seq);
        }
    }
    Ok(seqs)
}

/// How many messages match. What is counted as it is stored is not counted again.
fn total(
    tx: &Transaction<'_>,
    filter: &Filter,
    unindexed: &Stretch,
    found: &Found<'_>,
) -> rusqlite::Result<u64> {
    let n_in_tail = found.in_tail.len() as u64;
    match filter {
        Filter { sender: None, since: None, text: None } => message_count(tx),
        Filter { sender: Some(sender), since: None, text: None } => {
            Ok(count_indexed(tx, sender)? + n_in_tail)
        }
        Filter { sender: None, since: Some(since), text: None } => {
            let (ts_us, finer) = (since.at().as_micros(), since.finer());
            let in_span: u64 = tx
                .prepare_cached(
                    "SELECT count(*) FROM messages_by_time \
                     WHERE seq <= ?1 AND ts_us >= ?2 AND (ts_us, ts_finer) < (?3, ?4)",
                )?
                .query_row(
                    params![unindexed.after_seq, time_counts::start_of_span(ts_us), ts_us, finer],
                    |row| row.get(0),
                )?;
            Ok(count_since_span(tx, unindexed, since)? - in_span + n_in_tail)
        }
        _ => found.arms.iter().try_fold(n_in_tail, |total, arm| {
            let (select, values) = arm.select("count(*)");
            let n: u64 = tx.prepare_cached(&select)?.query_row(params_from_iter(values), |row| row.get(0))?;
            Ok(total + n)
        }),
    }
}

/// How many indexed messages are not older than the span of level 0 that holds a time.
fn count_since_span(tx: &Transaction<'_>, unindexed: &Stretch, since: &ExactTime) -> rusqlite::Result<u64> {
    let n_indexed = message_count(tx)? - unindexed.iter().count() as u64;
    Ok(n_indexed - time_counts::count_before_span(tx, since.at().as_micros())?)
}

fn message_count(tx: &Transaction<'_>) -> rusqlite::Result<u64> {
    tx.prepare_cached("SELECT message_count FROM totals")?.query_row([], |row| row.get(0))
}

fn read(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<Message> {
    tx.prepare_cached(
        "SELECT seq, name, message_id, sender, recipient, ts, text \
         FROM messages JOIN sources USING (source_id) WHERE seq = ?1",
    )?
    .query_row([seq], message)
}

/// A message of the columns seq, name of the source, message_id, sender, recipient, ts, text.
pub(crate) fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        seq: Seq(row.get(0)?),
        key: MessageKey {
            source: source(row.get_ref(1)?.as_str()?)?,
            message_id: parsed(row, 2, MessageId::parse)?,
        },
        sender: parsed(row, 3, PhoneNumber::stored)?,
        recipient: parsed(row, 4, PhoneNumber::stored)?,
        sent_at: parsed(row, 5, SentAt::stored)?,
        text: match row.get_ref(6)? {
            ValueRef::Null => None,
            _ => Some(parsed(row, 6, MessageText::parse)?),
        },
    })
}

fn source(name: &str) -> rusqlite::Result<SourceName> {
    SourceName::parse(name).map_err(|e| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(e)))
}
