//! The reference model of the ports: what they mean, in the plainest code that means it.
//!
//! For tests only: it forgets everything when it is dropped.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::message::{MessageKey, NewMessage, PhoneNumber};
use crate::query::{Filter, Listing, Message, MessageQuery, Page, Stats, TOP_SENDERS_MAX};
use crate::store::{Appended, MessageStore, Seq, StoreError};

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore {
    messages: Mutex<BTreeMap<MessageKey, (Seq, NewMessage)>>,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<MessageKey, (Seq, NewMessage)>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All messages in the order of listing.
    fn in_order(&self) -> Vec<Message> {
        let mut all: Vec<Message> = self.lock().values().map(|(seq, new)| as_listed(*seq, new)).collect();
        all.sort_by_cached_key(Message::place);
        all
    }
}

fn as_listed(seq: Seq, new: &NewMessage) -> Message {
    Message {
        seq,
        key: new.key(),
        sender: new.content.sender.clone(),
        recipient: new.content.recipient.clone(),
        sent_at: new.content.sent_at.clone(),
        text: new.content.text.clone(),
    }
}

fn matches(filter: &Filter, message: &Message) -> bool {
    filter.sender.as_deref().is_none_or(|sender| message.sender.as_str() == sender)
        && filter.since.as_ref().is_none_or(|since| message.sent_at.time() >= since)
        && filter
            .text
            .as_ref()
            .is_none_or(|query| message.text.as_ref().is_some_and(|text| query.matches(text.as_str())))
}

#[async_trait]
impl MessageStore for MemoryStore {
    async fn append(&self, messages: Vec<NewMessage>) -> Result<Vec<Appended>, StoreError> {
        let mut stored = self.lock();
        let mut appended = Vec::with_capacity(messages.len());
        for new in messages {
            let seq = Seq(i64::try_from(stored.len()).expect("memory holds fewer than 2^63 messages") + 1);
            let key = new.key();
            appended.push(match stored.get(&key) {
                Some((seq, first)) => {
                    Appended::Existing { seq: *seq, digest: Some(first.verified.body_digest) }
                }
                None => {
                    stored.insert(key, (seq, new));
                    Appended::Stored(seq)
                }
            });
        }
        Ok(appended)
    }
}

#[async_trait]
impl MessageQuery for MemoryStore {
    async fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError> {
        let matching: Vec<Message> = self.in_order().into_iter().filter(|m| matches(filter, m)).collect();
        let total = matching.len() as u64;
        let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
        let is_after = |m: &Message| page.after.as_ref().is_none_or(|place| m.place() > *place);
        let mut left = matching.into_iter().filter(is_after).skip(offset).peekable();
        let messages: Vec<Message> = left.by_ref().take(page.limit.into()).collect();
        let next = left.peek().and_then(|_| messages.last()).map(Message::place);
        Ok(Listing { messages, total, next })
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let all = self.in_order();
        let mut per_sender: BTreeMap<PhoneNumber, u64> = BTreeMap::new();
        for message in &all {
            *per_sender.entry(message.sender.clone()).or_default() += 1;
        }
        let senders_count = per_sender.len() as u64;
        let mut top_senders: Vec<(PhoneNumber, u64)> = per_sender.into_iter().collect();
        top_senders.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        top_senders.truncate(TOP_SENDERS_MAX.into());
        Ok(Stats {
            total_messages: all.len() as u64,
            senders_count,
            top_senders,
            first_message_ts: all.first().map(|m| m.sent_at.clone()),
            last_message_ts: all.last().map(|m| m.sent_at.clone()),
        })
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    /// The suite on the model itself: whoever changes the one learns what it does to the other.
    #[test]
    fn the_model_keeps_every_promise() {
        for (name, promise) in contract::PROMISES {
            let store = MemoryStore::default();
            futures_util::future::FutureExt::now_or_never(promise(&store))
                .unwrap_or_else(|| panic!("{name} waits"));
        }
    }
}
