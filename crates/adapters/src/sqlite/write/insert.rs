//! The rows of a batch, and the counts that go with them.

use std::collections::HashMap;

use domain::message::{MessageText, NewMessage};
use domain::signature::BodyDigest;
use domain::store::{Appended, Seq};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::sqlite::order::finer;
use crate::sqlite::tail::{self, Entry};
use crate::sqlite::write::transaction::Memory;

/// Inserts the messages of all deliveries that are new. One answer a message, in their order.
pub(crate) fn insert_all(
    tx: &Transaction<'_>,
    memory: &mut Memory,
    deliveries: &[&[NewMessage]],
) -> rusqlite::Result<Vec<Vec<Appended>>> {
    let mut source_ids: HashMap<&str, i64> = HashMap::new();
    let mut stored_per_sender: HashMap<&str, u64> = HashMap::new();
    let mut all = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let mut appended = Vec::with_capacity(delivery.len());
        for message in *delivery {
            let source = message.source.as_str();
            let source_id = match source_ids.get(source) {
                Some(id) => *id,
                None => *source_ids.entry(source).or_insert(source_id(tx, source)?),
            };
            let outcome = insert(tx, memory, source_id, message)?;
            if let Appended::Stored(_) = outcome {
                *stored_per_sender.entry(message.content.sender.as_str()).or_default() += 1;
            }
            appended.push(outcome);
        }
        all.push(appended);
    }
    let is_flush_asked = deliveries.iter().any(|d| d.is_empty());
    if is_flush_asked || !stored_per_sender.is_empty() {
        count(tx, memory, &stored_per_sender)?;
    }
    if is_flush_asked {
        // A row that stays as it is is not written, and then nothing is flushed. This number, which means nothing
        // here, is always written.
        tx.execute_batch("PRAGMA user_version = 0")?;
    }
    Ok(all)
}

fn source_id(tx: &Transaction<'_>, name: &str) -> rusqlite::Result<i64> {
    let known = tx
        .prepare_cached("SELECT source_id FROM sources WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => tx.query_row("INSERT INTO sources (name) VALUES (?1) RETURNING source_id", [name], |row| {
            row.get(0)
        }),
    }
}

fn insert(
    tx: &Transaction<'_>,
    memory: &mut Memory,
    source_id: i64,
    message: &NewMessage,
) -> rusqlite::Result<Appended> {
    let content = &message.content;
    let message_id = content.message_id.as_str();
    let key = tail::key(source_id, message_id);
    if let Some(seq) = memory.find(tx, &key)? {
        return existing(tx, seq);
    }
    let seq = memory.last_seq + 1;
    let (ts_us, ts_finer) = (content.sent_at.time().at().as_micros(), content.sent_at.time().finer());
    tx.prepare_cached(
        "INSERT INTO messages (seq, source_id, message_id, sender, recipient, ts, ts_us, ts_finer, text, \
                               received_at_us, body_sha256, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        seq,
        source_id,
        message_id,
        content.sender.as_str(),
        content.recipient.as_str(),
        content.sent_at.as_str(),
        ts_us,
        ts_finer,
        content.text.as_ref().map(MessageText::as_str),
        message.received_at.as_micros(),
        message.verified.body_digest.0,
        &message.body[..],
    ])?;
    memory.store(Entry {
        seq,
        key,
        received_at_us: message.received_at.as_micros(),
        sender: content.sender.as_str().into(),
        ts_us,
        ts_finer: finer(ts_finer).map(Box::from),
        message_id: message_id.into(),
    });
    Ok(Appended::Stored(Seq(seq)))
}

fn existing(tx: &Transaction<'_>, seq: i64) -> rusqlite::Result<Appended> {
    let digest = tx
        .prepare_cached("SELECT body_sha256 FROM messages WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0).map(BodyDigest))
        .optional()?;
    Ok(Appended::Existing { seq: Seq(seq), digest })
}

/// Adds what was stored to the counts.
fn count(
    tx: &Transaction<'_>,
    memory: &mut Memory,
    stored_per_sender: &HashMap<&str, u64>,
) -> rusqlite::Result<()> {
    let mut n_messages = 0;
    let mut n_senders = 0;
    let mut raised = HashMap::with_capacity(stored_per_sender.len());
    for (sender, stored) in stored_per_sender {
        let total = memory.senders.add(tx, sender, *stored)?;
        n_messages += stored;
        n_senders += u64::from(total == *stored);
        raised.insert(*sender, total);
    }
    memory.ranking.raise(tx, &raised)?;
    tx.prepare_cached(
        "UPDATE totals SET message_count = message_count + ?1, sender_count = sender_count + ?2, last_seq = ?3",
    )?
    .execute(params![n_messages, n_senders, memory.last_seq])?;
    Ok(())
}
