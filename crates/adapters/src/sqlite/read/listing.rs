//! One page of a listing, and how many messages match.

use std::collections::BinaryHeap;

use domain::query::{Filter, Listing, Message, Page, Place};
use domain::text_query::TextQuery;
use domain::time::ExactTime;
use rusqlite::types::Value;
use rusqlite::{Transaction, params_from_iter};

use crate::sqlite::order::{ListKey, RowKey, finer};
use crate::sqlite::read::selection::{Selection, indexed, searched};
use crate::sqlite::search::lookup::Search;
use crate::sqlite::tables::entry::{Entry, Stretch};
use crate::sqlite::tables::senders::count_indexed;
use crate::sqlite::tables::totals::message_count;
use crate::sqlite::tables::{by_time, messages, time_counts};
use crate::sqlite::tail::Tail;

/// Columns of a [`RowKey`] in a selection.
const LIST_KEY: &str = "i.ts_us, i.ts_finer, i.message_id, i.seq";

/// Offset from which on the first message of a page is found by counts, and not by walking there.
const SKIPPED_OFFSET_MIN: u64 = 1_000;

/// Messages of a sender, or since a time, whose texts a search reads one by one. If there are more, and more than the text
/// index is expected to find, the search uses the text index.
const SEARCHED_MESSAGES_MIN: u64 = 10_000;

/// List keys that a search keeps while it counts, of its page and of the messages before it: a megabyte or two. A later page
/// is found in a second pass.
const COLLECTED_KEYS_MAX: u64 = 10_000;

/// Returns one page of a snapshot, which begins here.
pub(crate) fn list(
    tx: &Transaction<'_>,
    tail: &Tail,
    filter: &Filter,
    page: &Page,
) -> rusqlite::Result<Listing> {
    // The text index is read first: see `Search::of`.
    let search = filter.text.as_ref().map(|text| Search::of(tx, text)).transpose()?.flatten();
    let unindexed = tail.unindexed(tx)?;
    let found = find(tx, &unindexed, filter, search)?;
    // One message more than the page has room for tells whether there is a next page.
    let limit = u64::from(page.limit) + 1;
    let is_in_one_pass = filter.text.is_some() && limit.saturating_add(page.offset) <= COLLECTED_KEYS_MAX;
    let (mut seqs, total) = if is_in_one_pass {
        collect(tx, &found, page.after.as_ref(), limit, page.offset)?
    } else {
        let total = total(tx, filter, &unindexed, &found)?;
        (page_of(tx, filter, page, &unindexed, found, limit, total)?, total)
    };
    let is_more = seqs.len() > usize::from(page.limit);
    seqs.truncate(page.limit.into());
    let messages: Vec<Message> =
        seqs.iter().map(|seq| messages::read(tx, *seq)).collect::<rusqlite::Result<_>>()?;
    let next = messages.last().filter(|_| is_more).map(Message::place);
    Ok(Listing { messages, total, next })
}

/// Returns the places of arrival of up to `limit` messages of the page, when `total` match.
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
            found.selections = found.selections.into_iter().map(|selection| selection.after(after)).collect();
            let after = key_of(after);
            found.in_tail.retain(|entry| entry.list_key() > after);
            walk(tx, found, limit, page.offset)
        }
        None if page.offset >= SKIPPED_OFFSET_MIN && is_by_time => {
            let offset_in_all = message_count(tx)? - total + page.offset;
            let unindexed_us: Vec<i64> = unindexed.iter().map(|entry| entry.ts_us).collect();
            let (from_us, skipped) = time_counts::skip(tx, &unindexed_us, offset_in_all)?;
            // In a span that begins before `since`, the filter leaves out messages that were not skipped either.
            let is_all_wanted = filter.since.as_ref().is_none_or(|since| since.at().as_micros() < from_us);
            let offset = if is_all_wanted { offset_in_all - skipped } else { page.offset };
            found.selections =
                found.selections.into_iter().map(|selection| selection.not_before(from_us)).collect();
            found.in_tail.retain(|entry| entry.ts_us >= from_us);
            walk(tx, found, limit, offset)
        }
        None => walk(tx, found, limit, page.offset),
    }
}

fn key_of(place: &Place) -> ListKey<'_> {
    let Place { sent_at, message_id, seq } = place;
    (sent_at.at().as_micros(), finer(sent_at.finer()), message_id.as_str(), seq.0)
}

/// Messages that match a filter: in these selections of the database, and in the tail.
struct Found<'a> {
    selections: Vec<Selection>,
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
        return Ok(Found { selections: searched(filter, search).into(), in_tail: Vec::new() });
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
    Ok(Found { selections: vec![indexed(filter, unindexed.after_seq)], in_tail })
}

/// Returns how many texts of indexed messages a search reads at most without the text index.
fn n_to_look_through(tx: &Transaction<'_>, unindexed: &Stretch, filter: &Filter) -> rusqlite::Result<u64> {
    let of_sender = filter.sender.as_deref().map(|sender| count_indexed(tx, sender)).transpose()?;
    let since = filter.since.as_ref().map(|since| count_since_span(tx, unindexed, since)).transpose()?;
    Ok(of_sender.into_iter().chain(since).min().unwrap_or(u64::MAX))
}

/// Returns the messages with this text.
fn with_text<'a>(
    tx: &Transaction<'_>,
    entries: Vec<&'a Entry>,
    text: &TextQuery,
) -> rusqlite::Result<Vec<&'a Entry>> {
    let mut found = Vec::new();
    for entry in entries {
        if messages::has_text(tx, entry.seq, text.folded())? {
            found.push(entry);
        }
    }
    Ok(found)
}

/// Returns what [`walk`] returns, and how many messages match in all, in one pass: for searches, which take long.
fn collect(
    tx: &Transaction<'_>,
    found: &Found<'_>,
    after: Option<&Place>,
    limit: u64,
    offset: u64,
) -> rusqlite::Result<(Vec<i64>, u64)> {
    let n_skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    let n_kept = usize::try_from(limit + offset).unwrap_or(usize::MAX);
    let after = after.map(key_of);
    let mut total = 0;
    // The last of the kept keys is on top.
    let mut first: BinaryHeap<RowKey> = BinaryHeap::new();
    for selection in &found.selections {
        let (select, values) = selection.select(LIST_KEY);
        let mut select = tx.prepare_cached(&select)?;
        let mut rows = select.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            total += 1;
            let ts_us: i64 = row.get(0)?;
            let is_late = first.len() == n_kept && first.peek().is_some_and(|last| last.list_key().0 < ts_us);
            if !is_late {
                keep_first(&mut first, n_kept, after, RowKey::read(row)?);
            }
        }
    }
    for entry in &found.in_tail {
        total += 1;
        keep_first(&mut first, n_kept, after, RowKey::of(entry.list_key()));
    }
    let page = first.into_sorted_vec().into_iter().skip(n_skipped).map(|place| place.seq);
    Ok((page.collect(), total))
}

fn keep_first(first: &mut BinaryHeap<RowKey>, n_max: usize, after: Option<ListKey<'_>>, place: RowKey) {
    if after.is_none_or(|after| place.list_key() > after) {
        first.push(place);
        if first.len() > n_max {
            first.pop();
        }
    }
}

/// Returns the places of arrival of up to `limit` messages in order of listing, after the first `offset`.
fn walk(tx: &Transaction<'_>, found: Found<'_>, limit: u64, offset: u64) -> rusqlite::Result<Vec<i64>> {
    let Found { selections, mut in_tail } = found;
    let n_walked = limit.saturating_add(offset);
    let mut selects = Vec::new();
    let mut values = Vec::new();
    for selection in selections {
        let (select, selection_values) = selection.select(LIST_KEY);
        // Each selection sorts and stops by itself: none is read further than the page could need.
        selects.push(format!("SELECT * FROM ({select} ORDER BY 1, 2, 3, 4 LIMIT ?)"));
        values.extend(selection_values);
        values.push(Value::from(i64::try_from(n_walked).unwrap_or(i64::MAX)));
    }
    let order = if selects.len() > 1 { " ORDER BY 1, 2, 3, 4" } else { "" };
    let mut in_database = tx.prepare_cached(&(selects.join(" UNION ALL ") + order))?;
    let mut in_database = in_database.query_map(params_from_iter(values), RowKey::read)?;
    let mut row = in_database.next().transpose()?;

    let n_in_tail = usize::try_from(n_walked).unwrap_or(usize::MAX);
    if n_in_tail < in_tail.len() {
        in_tail.select_nth_unstable_by(n_in_tail, |a, b| a.list_key().cmp(&b.list_key()));
        in_tail.truncate(n_in_tail);
    }
    in_tail.sort_unstable_by(|a, b| a.list_key().cmp(&b.list_key()));
    let mut in_tail = in_tail.into_iter().peekable();

    let mut seqs = Vec::new();
    for n in 0..n_walked {
        let seq = match (&row, in_tail.peek()) {
            (Some(row), entry) if entry.is_none_or(|entry| row.list_key() < entry.list_key()) => row.seq,
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

/// Returns how many messages match, from kept counts where there are any.
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
            let in_span = by_time::count_in_span_before(tx, unindexed.after_seq, since)?;
            Ok(count_since_span(tx, unindexed, since)? - in_span + n_in_tail)
        }
        _ => found.selections.iter().try_fold(n_in_tail, |total, selection| {
            let (select, values) = selection.select("count(*)");
            let n: u64 = tx.prepare_cached(&select)?.query_row(params_from_iter(values), |row| row.get(0))?;
            Ok(total + n)
        }),
    }
}

/// Returns how many indexed messages are not older than the span of level 0 that holds a time.
fn count_since_span(tx: &Transaction<'_>, unindexed: &Stretch, since: &ExactTime) -> rusqlite::Result<u64> {
    let n_indexed = message_count(tx)? - unindexed.iter().count() as u64;
    Ok(n_indexed - time_counts::count_before_span(tx, since.at().as_micros())?)
}
