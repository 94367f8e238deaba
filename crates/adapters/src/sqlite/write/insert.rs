//! The rows of a commit, and the counts that go with them.

use std::collections::HashMap;

use domain::message::NewMessage;
use domain::store::{Appended, Seq};
use rusqlite::Transaction;

use crate::sqlite::order::finer;
use crate::sqlite::tables::entry::Entry;
use crate::sqlite::tables::{keys, messages, sources, totals};
use crate::sqlite::write::state::WriterState;

/// Inserts the messages of all appends that are new. Returns one answer for each message, in their order.
pub(crate) fn insert_all(
    tx: &Transaction<'_>,
    state: &mut WriterState,
    appends: &[&[NewMessage]],
) -> rusqlite::Result<Vec<Vec<Appended>>> {
    let mut source_ids: HashMap<&str, i64> = HashMap::new();
    let mut stored_per_sender: HashMap<&str, u64> = HashMap::new();
    let mut all = Vec::with_capacity(appends.len());
    for append in appends {
        let mut appended = Vec::with_capacity(append.len());
        for message in *append {
            let source = message.source.as_str();
            let source_id = match source_ids.get(source) {
                Some(id) => *id,
                None => *source_ids.entry(source).or_insert(sources::source_id(tx, source)?),
            };
            let outcome = insert(tx, state, source_id, message)?;
            if let Appended::Stored(_) = outcome {
                *stored_per_sender.entry(message.content.sender.as_str()).or_default() += 1;
            }
            appended.push(outcome);
        }
        all.push(appended);
    }
    let is_flush_asked = appends.iter().any(|append| append.is_empty());
    if is_flush_asked || !stored_per_sender.is_empty() {
        count(tx, state, &stored_per_sender)?;
    }
    if is_flush_asked {
        // A row that stays as it is is not written, and then nothing is flushed. This number, which means nothing
        // here, is always written.
        tx.execute_batch("PRAGMA user_version = 0")?;
    }
    Ok(all)
}

fn insert(
    tx: &Transaction<'_>,
    state: &mut WriterState,
    source_id: i64,
    message: &NewMessage,
) -> rusqlite::Result<Appended> {
    let content = &message.content;
    let message_id = content.message_id.as_str();
    let key = keys::key(source_id, message_id);
    if let Some(seq) = state.find(tx, &key)? {
        return Ok(Appended::Existing { seq: Seq(seq), digest: messages::body_digest(tx, seq)? });
    }
    let seq = state.last_seq + 1;
    messages::insert(tx, seq, source_id, message)?;
    state.store(Entry {
        seq,
        key,
        received_at_us: message.received_at.as_micros(),
        sender: content.sender.as_str().into(),
        ts_us: content.sent_at.time().at().as_micros(),
        ts_finer: finer(content.sent_at.time().finer()).map(Box::from),
        message_id: message_id.into(),
    });
    Ok(Appended::Stored(Seq(seq)))
}

/// Adds the messages that were stored to the counts.
fn count(
    tx: &Transaction<'_>,
    state: &mut WriterState,
    stored_per_sender: &HashMap<&str, u64>,
) -> rusqlite::Result<()> {
    let mut n_messages = 0;
    let mut n_senders = 0;
    let mut raised = HashMap::with_capacity(stored_per_sender.len());
    for (sender, stored) in stored_per_sender {
        let total = state.senders.add(tx, sender, *stored)?;
        n_messages += stored;
        n_senders += u64::from(total == *stored);
        raised.insert(*sender, total);
    }
    state.top_senders.raise(tx, &raised)?;
    totals::add_stored(tx, n_messages, n_senders, state.last_seq)
}
