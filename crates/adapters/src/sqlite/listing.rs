//! One page of a listing, and how many messages match.

use domain::message::{MessageId, MessageKey, MessageText, PhoneNumber, SentAt};
use domain::query::{Filter, Listing, Message, Page};
use domain::source::SourceName;
use domain::store::Seq;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Row, Transaction, params, params_from_iter};

use super::arm::{Arm, arms};
use super::row::parsed;
use super::search::Search;
use super::time_counts;

/// Offsets from which on the way to the first message is looked up and not walked.
const SKIPPED_OFFSET_MIN: u64 = 1_000;

/// Messages of a sender that are looked through one by one; if there are more, the index of texts is asked.
const SEARCHED_MESSAGES_MIN: u64 = 10_000;

pub(super) fn list(tx: &Transaction<'_>, filter: &Filter, page: &Page) -> rusqlite::Result<Listing> {
    let search = search(tx, filter)?;
    let indexed_seq = tx.prepare_cached("SELECT indexed_seq FROM totals")?.query_row([], |row| row.get(0))?;
    let arms = arms(filter, indexed_seq, search);
    let total = total(tx, filter, indexed_seq, &arms)?;
    // One more than the page has room for tells whether there is a next one.
    let limit = u64::from(page.limit) + 1;
    let is_by_time = filter.sender.is_none() && filter.text.is_none();
    let mut seqs = match &page.after {
        _ if page.offset >= total => Vec::new(),
        Some(place) => walk(tx, arms.map(|arm| arm.after(place)), limit, page.offset)?,
        None if page.offset >= SKIPPED_OFFSET_MIN && is_by_time => {
            let offset_in_all = message_count(tx)? - total + page.offset;
            let unindexed = unindexed_times(tx, indexed_seq)?;
            let (from_us, skipped) = time_counts::skip(tx, &unindexed, offset_in_all)?;
            walk(tx, arms.map(|arm| arm.not_before(from_us)), limit, offset_in_all - skipped)?
        }
        None => walk(tx, arms, limit, page.offset)?,
    };
    let is_more = seqs.len() > usize::from(page.limit);
    seqs.truncate(page.limit.into());
    let messages: Vec<Message> = seqs.iter().map(|seq| read(tx, *seq)).collect::<rusqlite::Result<_>>()?;
    let next = messages.last().filter(|_| is_more).map(Message::place);
    Ok(Listing { messages, total, next })
}

/// How to search for the text of a filter, if that is the way to find what it wants.
fn search(tx: &Transaction<'_>, filter: &Filter) -> rusqlite::Result<Option<Search>> {
    let Some(search) = filter.text.as_ref().map(|text| Search::of(tx, text)).transpose()?.flatten() else {
        return Ok(None);
    };
    let of_sender = match &filter.sender {
        Some(sender) => count_of_sender(tx, sender)?,
        None => u64::MAX,
    };
    Ok(Some(search).filter(|_| of_sender > SEARCHED_MESSAGES_MIN))
}

/// The arrivals of the messages in order of time.
fn walk(tx: &Transaction<'_>, arms: [Arm; 2], limit: u64, offset: u64) -> rusqlite::Result<Vec<i64>> {
    let bound = |n: u64| Value::from(i64::try_from(n).unwrap_or(i64::MAX));
    let mut selects = Vec::new();
    let mut values = Vec::new();
    for arm in arms {
        let (select, arm_values) = arm.select("i.ts_us, i.ts_finer, i.message_id, i.seq");
        // Each arm sorts for itself and stops by itself: none is read further than the page could need.
        selects.push(format!("SELECT * FROM ({select} ORDER BY 1, 2, 3, 4 LIMIT ?)"));
        values.extend(arm_values);
        values.push(bound(limit.saturating_add(offset)));
    }
    values.extend([bound(limit), bound(offset)]);
    let sql = format!("{} ORDER BY 1, 2, 3, 4 LIMIT ? OFFSET ?", selects.join(" UNION ALL "));
    tx.prepare_cached(&sql)?.query_map(params_from_iter(values), |row| row.get(3))?.collect()
}

/// How many messages match. What is counted as it is stored is not counted again.
fn total(tx: &Transaction<'_>, filter: &Filter, indexed_seq: i64, arms: &[Arm; 2]) -> rusqlite::Result<u64> {
    match filter {
        Filter { sender: None, since: None, text: None } => message_count(tx),
        Filter { sender: Some(sender), since: None, text: None } => count_of_sender(tx, sender),
        Filter { sender: None, since: Some(since), text: None } => {
            let (ts_us, finer) = (since.at().as_micros(), since.finer());
            let in_span: u64 = tx
                .prepare_cached(
                    "SELECT (SELECT count(*) FROM messages_by_time \
                             WHERE seq <= ?1 AND ts_us >= ?2 AND (ts_us, ts_finer) < (?3, ?4)) \
                          + (SELECT count(*) FROM messages WHERE seq > ?1 AND (ts_us, ts_finer) < (?3, ?4))",
                )?
                .query_row(params![indexed_seq, time_counts::start_of_span(ts_us), ts_us, finer], |row| {
                    row.get(0)
                })?;
            Ok(message_count(tx)? - time_counts::count_before_span(tx, ts_us)? - in_span)
        }
        _ => arms.iter().try_fold(0, |total, arm| {
            let (select, values) = arm.select("count(*)");
            let n: u64 = tx.prepare_cached(&select)?.query_row(params_from_iter(values), |row| row.get(0))?;
            Ok(total + n)
        }),
    }
}

fn message_count(tx: &Transaction<'_>) -> rusqlite::Result<u64> {
    tx.prepare_cached("SELECT message_count FROM totals")?.query_row([], |row| row.get(0))
}

fn count_of_sender(tx: &Transaction<'_>, sender: &str) -> rusqlite::Result<u64> {
    tx.prepare_cached("SELECT coalesce(sum(message_count), 0) FROM senders WHERE sender = ?1")?
        .query_row([sender], |row| row.get(0))
}

fn unindexed_times(tx: &Transaction<'_>, indexed_seq: i64) -> rusqlite::Result<Vec<i64>> {
    tx.prepare_cached("SELECT ts_us FROM messages WHERE seq > ?1")?
        .query_map([indexed_seq], |row| row.get(0))?
        .collect()
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
        sender: parsed(row, 3, PhoneNumber::parse)?,
        recipient: parsed(row, 4, PhoneNumber::parse)?,
        sent_at: parsed(row, 5, SentAt::parse)?,
        text: match row.get_ref(6)? {
            ValueRef::Null => None,
            _ => Some(parsed(row, 6, MessageText::parse)?),
        },
    })
}
