//! Table `messages`: every message as it came, in order of arrival. It has no index.

use domain::message::{MessageId, MessageKey, MessageText, NewMessage, PhoneNumber, SentAt};
use domain::query::Message;
use domain::signature::BodyDigest;
use domain::store::Seq;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::sqlite::columns::{parsed, source_name};
use crate::sqlite::order::finer;
use crate::sqlite::tables::entry::{Batch, Entry, Stretch};
use crate::sqlite::tables::keys::key;

/// The rows, called `i`, for a selection.
pub(crate) const ROWS: &str = "messages AS i";

/// Condition of a selection: the row `i` of an index belongs to a message with this text.
pub(crate) const HAS_TEXT_OF_ENTRY: &str =
    "text_contains((SELECT text FROM messages WHERE messages.seq = i.seq), ?)";

/// Columns of [`message`] for a selection of [`ROWS`].
pub(crate) const COLUMNS: &str = "i.seq, (SELECT name FROM sources WHERE sources.source_id = i.source_id), \
     i.message_id, i.sender, i.recipient, i.ts, i.text";

/// Entries of a batch that is read from the database: as many as a commit stores.
const BATCH_ENTRIES: usize = 512;

/// The parts of a message that find it in the indexes.
pub(crate) struct MessageRow {
    pub(crate) seq: i64,
    pub(crate) sender: String,
    pub(crate) ts_us: i64,
    pub(crate) ts_finer: String,
    pub(crate) message_id: String,
}

impl MessageRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            sender: row.get(1)?,
            ts_us: row.get(2)?,
            ts_finer: row.get(3)?,
            message_id: row.get(4)?,
        })
    }
}

/// Inserts a message at this place.
pub(crate) fn insert(
    tx: &Transaction<'_>,
    seq: i64,
    source_id: i64,
    message: &NewMessage,
) -> rusqlite::Result<()> {
    let content = &message.content;
    tx.prepare_cached(
        "INSERT INTO messages (seq, source_id, message_id, sender, recipient, ts, ts_us, ts_finer, text, \
                               received_at_us, body_sha256, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        seq,
        source_id,
        content.message_id.as_str(),
        content.sender.as_str(),
        content.recipient.as_str(),
        content.sent_at.as_str(),
        content.sent_at.time().at().as_micros(),
        content.sent_at.time().finer(),
        content.text.as_ref().map(MessageText::as_str),
        message.received_at.as_micros(),
        message.verified.body_digest.0,
        &message.body[..],
    ])
    .map(drop)
}

/// Removes a message. Indexes and counts stay.
pub(crate) fn remove(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM messages WHERE seq = ?1")?.execute([seq]).map(drop)
}

/// Returns the digest of a message's body, if the message is still there.
pub(crate) fn body_digest(db: &Connection, seq: i64) -> rusqlite::Result<Option<BodyDigest>> {
    db.prepare_cached("SELECT body_sha256 FROM messages WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0).map(BodyDigest))
        .optional()
}

/// Returns the message at a place.
pub(crate) fn read(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<Message> {
    tx.prepare_cached(
        "SELECT seq, name, message_id, sender, recipient, ts, text \
         FROM messages JOIN sources USING (source_id) WHERE seq = ?1",
    )?
    .query_row([seq], message)
}

/// Reads a message from the columns seq, name of the source, message_id, sender, recipient, ts, text.
pub(crate) fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        seq: Seq(row.get(0)?),
        key: MessageKey { source: source_name(row, 1)?, message_id: parsed(row, 2, MessageId::parse)? },
        sender: parsed(row, 3, PhoneNumber::stored)?,
        recipient: parsed(row, 4, PhoneNumber::stored)?,
        sent_at: parsed(row, 5, SentAt::stored)?,
        text: match row.get_ref(6)? {
            ValueRef::Null => None,
            _ => Some(parsed(row, 6, MessageText::parse)?),
        },
    })
}

/// Returns the time of a message as it was sent.
pub(crate) fn sent_at(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<SentAt> {
    let mut ts = tx.prepare_cached("SELECT ts FROM messages WHERE seq = ?1")?;
    ts.query_row([seq], |row| parsed(row, 0, SentAt::stored))
}

/// Returns the messages after one place, up to another, as the indexes will have them.
pub(crate) fn entries(db: &Connection, after_seq: i64, to_seq: i64) -> rusqlite::Result<Stretch> {
    let entry = |row: &Row<'_>| {
        let message_id: Box<str> = row.get(2)?;
        Ok(Entry {
            seq: row.get(0)?,
            key: key(row.get(1)?, &message_id),
            received_at_us: row.get(6)?,
            message_id,
            sender: row.get(3)?,
            ts_us: row.get(4)?,
            ts_finer: finer(row.get_ref(5)?.as_str()?).map(Box::from),
        })
    };
    let mut stored = db.prepare_cached(
        "SELECT seq, source_id, message_id, sender, ts_us, ts_finer, received_at_us FROM messages \
         WHERE seq > ?1 AND seq <= ?2 ORDER BY seq",
    )?;
    let mut stored = stored.query_map(params![after_seq, to_seq], entry)?.peekable();
    let mut batches: Vec<Batch> = Vec::new();
    while stored.peek().is_some() {
        let batch: Vec<Entry> = stored.by_ref().take(BATCH_ENTRIES).collect::<rusqlite::Result<_>>()?;
        batches.push(batch.into());
    }
    Ok(Stretch { batches, after_seq, to_seq })
}

/// Returns the oldest messages that are indexed, up to the place `to` and at most `n_max`.
pub(crate) fn oldest(tx: &Transaction<'_>, to: Seq, n_max: usize) -> rusqlite::Result<Vec<MessageRow>> {
    tx.prepare_cached(
        "SELECT seq, sender, ts_us, ts_finer, message_id FROM messages \
         WHERE seq > (SELECT purged_seq FROM totals) AND seq <= (SELECT min(indexed_seq, ?1) FROM totals) \
         ORDER BY seq LIMIT ?2",
    )?
    .query_map(params![to.0, n_max], MessageRow::read)?
    .collect()
}

/// Returns a message with the number of its source.
pub(crate) fn with_source(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<(i64, MessageRow)> {
    tx.prepare_cached(
        "SELECT seq, sender, ts_us, ts_finer, message_id, source_id FROM messages WHERE seq = ?1",
    )?
    .query_row([seq], |row| Ok((row.get(5)?, MessageRow::read(row)?)))
}

/// Returns the places of up to `n_max` messages with this id that are not indexed yet.
pub(crate) fn unindexed_with_id(
    tx: &Transaction<'_>,
    message_id: &str,
    n_max: usize,
) -> rusqlite::Result<Vec<i64>> {
    tx.prepare_cached(
        "SELECT seq FROM messages WHERE seq > (SELECT indexed_seq FROM totals) AND message_id = ?1 LIMIT ?2",
    )?
    .query_map(params![message_id, n_max], |row| row.get(0))?
    .collect()
}

/// Returns the places of up to `n_max` messages of a sender that are not indexed yet.
pub(crate) fn unindexed_of_sender(
    tx: &Transaction<'_>,
    sender: &str,
    n_max: usize,
) -> rusqlite::Result<Vec<i64>> {
    tx.prepare_cached(
        "SELECT seq FROM messages WHERE seq > (SELECT indexed_seq FROM totals) AND sender = ?1 LIMIT ?2",
    )?
    .query_map(params![sender, n_max], |row| row.get(0))?
    .collect()
}

/// Returns true if the text of a message contains this folded text.
pub(crate) fn has_text(tx: &Transaction<'_>, seq: i64, folded: &str) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM messages WHERE seq = ?1 AND text_contains(text, ?2)")?
        .exists(params![seq, folded])
}

/// Calls `each` with the place, the text and the body's digest of the messages after a place, in order of arrival, until
/// it returns false or `n_max` were read.
pub(crate) fn texts_after(
    db: &Connection,
    after_seq: i64,
    n_max: usize,
    mut each: impl FnMut(i64, Option<&[u8]>, Vec<u8>) -> bool,
) -> rusqlite::Result<()> {
    let mut next = db.prepare_cached(
        "SELECT seq, text, body_sha256 FROM messages \
         WHERE seq > ?1 AND seq <= (SELECT last_seq FROM totals) ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = next.query(params![after_seq, n_max])?;
    while let Some(row) = rows.next()? {
        let text = match row.get_ref(1)? {
            ValueRef::Text(text) => Some(text),
            _ => None,
        };
        if !each(row.get(0)?, text, row.get(2)?) {
            break;
        }
    }
    Ok(())
}

/// Reads one row, to find out whether the table can be read.
pub(crate) fn try_read(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.prepare_cached("SELECT seq FROM messages LIMIT 1")?.exists([]).map(drop)
}

/// Counts all messages by reading the table.
pub(crate) fn count(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))
}

/// Returns the place and the text of the first message that has one, after a place and up to another.
pub(crate) fn next_text(
    db: &Connection,
    after_seq: i64,
    to_seq: i64,
) -> rusqlite::Result<Option<(i64, String)>> {
    db.prepare_cached(
        "SELECT seq, text FROM messages WHERE seq > ?1 AND seq <= ?2 AND text IS NOT NULL ORDER BY seq LIMIT 1",
    )?
    .query_row([after_seq, to_seq], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}
