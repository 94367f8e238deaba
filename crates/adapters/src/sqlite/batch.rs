//! One transaction: the rows of a batch and the counts that go with them.

use std::collections::HashMap;

use domain::message::{MessageText, NewMessage};
use domain::query::TOP_SENDERS_MAX;
use domain::signature::BodyDigest;
use domain::store::{Appended, Seq, StoreError, StoreErrorKind};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::error::store_error;

pub(super) const OPERATION: &str = "append messages";

/// Appends all deliveries in one transaction and flushes it. One answer a message, in their order.
///
/// # Errors
/// Nothing was stored, unless the kind is `Unknown`.
pub(super) fn commit(
    db: &mut Connection,
    deliveries: &[&[NewMessage]],
) -> Result<Vec<Vec<Appended>>, StoreError> {
    let not_committed = |error| store_error(OPERATION, error);
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(not_committed)?;
    let appended = insert_all(&tx, deliveries).map_err(not_committed)?;
    let Err(error) = tx.commit() else {
        return Ok(appended);
    };
    // rusqlite has tried to roll back. If the transaction was open until then, it is gone; if
    // SQLite had ended it by itself, the write-ahead log may hold it or not, and only a look after
    // the next opening can tell.
    Err(StoreError::new(StoreErrorKind::Unknown, OPERATION, format!("commit failed: {error}")))
}

fn insert_all(tx: &Transaction<'_>, deliveries: &[&[NewMessage]]) -> rusqlite::Result<Vec<Vec<Appended>>> {
    let mut source_ids: HashMap<&str, i64> = HashMap::new();
    let mut stored_per_sender: HashMap<&str, i64> = HashMap::new();
    let mut all = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let mut appended = Vec::with_capacity(delivery.len());
        for message in *delivery {
            let source = message.source.as_str();
            let source_id = match source_ids.get(source) {
                Some(id) => *id,
                None => *source_ids.entry(source).or_insert(source_id(tx, source)?),
            };
            let outcome = insert(tx, source_id, message)?;
            if let Appended::Stored(_) = outcome {
                *stored_per_sender.entry(message.content.sender.as_str()).or_default() += 1;
            }
            appended.push(outcome);
        }
        all.push(appended);
    }
    let is_flush_asked = deliveries.iter().any(|d| d.is_empty());
    if is_flush_asked || !stored_per_sender.is_empty() {
        count(tx, &stored_per_sender)?;
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

fn insert(tx: &Transaction<'_>, source_id: i64, message: &NewMessage) -> rusqlite::Result<Appended> {
    let content = &message.content;
    let message_id = content.message_id.as_str();
    let n_rows = tx
        .prepare_cached(
            "INSERT INTO messages (source_id, message_id, sender, recipient, ts, ts_us, ts_finer, text, \
                                   received_at_us, body_sha256, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT (source_id, message_id) DO NOTHING",
        )?
        .execute(params![
            source_id,
            message_id,
            content.sender.as_str(),
            content.recipient.as_str(),
            content.sent_at.as_str(),
            content.sent_at.time().at().as_micros(),
            content.sent_at.time().finer(),
            content.text.as_ref().map(MessageText::as_str),
            message.received_at.as_micros(),
            message.verified.body_digest.0,
            &message.body[..],
        ])?;
    if n_rows == 1 {
        return Ok(Appended::Stored(Seq(tx.last_insert_rowid())));
    }
    tx.prepare_cached("SELECT seq, body_sha256 FROM messages WHERE source_id = ?1 AND message_id = ?2")?
        .query_row(params![source_id, message_id], |row| {
            Ok(Appended::Existing { seq: Seq(row.get(0)?), digest: BodyDigest(row.get(1)?) })
        })
}

/// Adds what was stored to the counts.
fn count(tx: &Transaction<'_>, stored_per_sender: &HashMap<&str, i64>) -> rusqlite::Result<()> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO senders (sender, message_count) VALUES (?1, ?2) \
         ON CONFLICT (sender) DO UPDATE SET message_count = message_count + excluded.message_count \
         RETURNING message_count",
    )?;
    let mut n_messages = 0;
    let mut n_senders = 0;
    let mut raised = Vec::with_capacity(stored_per_sender.len());
    for (sender, stored) in stored_per_sender {
        let total: i64 = upsert.query_row(params![sender, stored], |row| row.get(0))?;
        n_messages += stored;
        n_senders += i64::from(total == *stored);
        raised.push((*sender, total));
    }
    rank(tx, &raised)?;
    tx.prepare_cached(
        "UPDATE totals SET message_count = message_count + ?1, sender_count = sender_count + ?2",
    )?
    .execute([n_messages, n_senders])?;
    Ok(())
}

/// Takes those senders into the ranking whose raised count puts them there. As counts only rise, whoever was
/// below the last one and was not raised stays below.
fn rank(tx: &Transaction<'_>, raised: &[(&str, i64)]) -> rusqlite::Result<()> {
    let last: i64 = tx
        .prepare_cached("SELECT CASE WHEN count(*) < ?1 THEN 0 ELSE min(message_count) END FROM top_senders")?
        .query_row([TOP_SENDERS_MAX], |row| row.get(0))?;
    let mut upsert = tx.prepare_cached(
        "INSERT INTO top_senders (sender, message_count) VALUES (?1, ?2) \
         ON CONFLICT (sender) DO UPDATE SET message_count = excluded.message_count",
    )?;
    for (sender, total) in raised.iter().filter(|(_, total)| *total >= last) {
        upsert.execute(params![sender, total])?;
    }
    tx.prepare_cached(
        "DELETE FROM top_senders WHERE sender NOT IN \
            (SELECT sender FROM top_senders ORDER BY message_count DESC, sender LIMIT ?1)",
    )?
    .execute([TOP_SENDERS_MAX])?;
    Ok(())
}
