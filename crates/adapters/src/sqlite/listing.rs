//! One page of a listing, and how many messages match.

use domain::message::{MessageId, MessageKey, MessageText, PhoneNumber, SentAt};
use domain::query::{Filter, Listing, Message, Page, TextQuery};
use domain::source::SourceName;
use domain::store::Seq;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Row, Transaction, params, params_from_iter};

use super::arm::{Arm, indexed, searched};
use super::row::{RowPlace, finer, parsed};
use super::search::Search;
use super::sender_counts::count_indexed;
use super::tail::{Entry, Stretch, Tail};
use super::time_counts;

/// Offsets from which on the way to the first message is looked up and not walked.
const SKIPPED_OFFSET_MIN: u64 = 1_000;

/// Messages of a sender that are looked through one by one; if there are more, the index of texts is asked.
const SEARCHED_MESSAGES_MIN: u64 = 10_000;

pub(super) fn list(
    tx: &Transaction<'_>,
    tail: &Tail,
    filter: &Filter,
    page: &Page,
) -> rusqlite::Result<Listing> {
    // The index of texts comes first, as it wants to.
    let search = filter.text.as_ref().map(|text| Search::of(tx, text)).transpose()?.flatten();
    let unindexed = tail.unindexed(tx)?;
    let mut found = find(tx, &unindexed, filter, search)?;
    let total = total(tx, filter, &unindexed, &found)?;
    // One more than the page has room for tells whether there is a next one.
    let limit = u64::from(page.limit) + 1;
    let is_by_time = filter.sender.is_none() && filter.text.is_none();
    let mut seqs = match &page.after {
        _ if page.offset >= total => Vec::new(),
        Some(place) => {
            found.arms = found.arms.into_iter().map(|arm| arm.after(place)).collect();
            let place = (
                place.sent_at.at().as_micros(),
                finer(place.sent_at.finer()),
                place.message_id.as_str(),
                place.seq.0,
            );
            found.in_tail.retain(|entry| entry.place() > place);
            walk(tx, found, limit, page.offset)?
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
            walk(tx, found, limit, offset)?
        }
        None => walk(tx, found, limit, page.offset)?,
    };
    let is_more = seqs.len() > usize::from(page.limit);
    seqs.truncate(page.limit.into());
    let messages: Vec<Message> = seqs.iter().map(|seq| read(tx, *seq)).collect::<rusqlite::Result<_>>()?;
    let next = messages.last().filter(|_| is_more).map(Message::place);
    Ok(Listing { messages, total, next })
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
    let n_of_sender = match &filter.sender {
        Some(sender) => count_indexed(tx, sender)?,
        None => u64::MAX,
    };
    if let Some(search) = search
        && n_of_sender > SEARCHED_MESSAGES_MIN
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
            let n_indexed = message_count(tx)? - unindexed.iter().count() as u64;
            Ok(n_indexed - time_counts::count_before_span(tx, ts_us)? - in_span + n_in_tail)
        }
        _ => found.arms.iter().try_fold(n_in_tail, |total, arm| {
            let (select, values) = arm.select("count(*)");
            let n: u64 = tx.prepare_cached(&select)?.query_row(params_from_iter(values), |row| row.get(0))?;
            Ok(total + n)
        }),
    }
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

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        seq: Seq(row.get(0)?),
        key: MessageKey {
            source: SourceName::new(row.get_ref(1)?.as_str()?),
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
