//! The reference model of the ports: their meaning, in the plainest code that has it.
//!
//! For tests only: it forgets everything when the last handle is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::message::{MessageKey, NewMessage, PhoneNumber};
use crate::query::{Filter, Listing, Message, MessageQuery, Page, Stats, TOP_SENDERS_MAX};
use crate::retention::{MessageExpiry, Retention};
use crate::store::{Appended, MessageStore, Seq, StoreError};
use crate::time::Timestamp;

/// Time by which two readings of a clock that can be trusted differ at most, and for which a clock has to go on after a jump.
const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// A store in memory; a clone is another handle on it.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// Every key with the place of its message; the message is `None` once it has expired.
    pub(crate) messages: BTreeMap<MessageKey, (Seq, Option<NewMessage>)>,
    last_seq: i64,
    /// The last trusted reading of the clock.
    trusted_us: Option<i64>,
    /// The first and the last reading since a jump.
    since_jump_us: Option<(i64, i64)>,
    /// Readings of the clock, with the last place at that time.
    notes: Vec<(i64, i64)>,
}

impl State {
    pub(crate) fn append(&mut self, new: NewMessage) -> Appended {
        let key = new.key();
        match self.messages.get(&key) {
            Some((seq, first)) => Appended::Existing {
                seq: *seq,
                digest: first.as_ref().map(|first| first.verified.body_digest),
            },
            None => self.store(key, new),
        }
    }

    pub(crate) fn store(&mut self, key: MessageKey, new: NewMessage) -> Appended {
        self.last_seq += 1;
        self.messages.insert(key, (Seq(self.last_seq), Some(new)));
        Appended::Stored(Seq(self.last_seq))
    }

    /// Returns true if the clock can be trusted.
    fn read_clock(&mut self, now_us: i64) -> bool {
        let is_near = |us: i64| now_us.abs_diff(us) <= DAY_US.unsigned_abs();
        match (self.trusted_us, self.since_jump_us) {
            (Some(us), _) if is_near(us) => {
                self.trusted_us = Some(us.max(now_us));
                self.since_jump_us = None;
                true
            }
            (_, Some((first, last))) if is_near(last) => {
                self.since_jump_us = Some((first, last.max(now_us)));
                let is_settled = last.max(now_us) - first >= DAY_US;
                if is_settled {
                    // The time that the clock jumped over has not passed.
                    let jump_us = self.trusted_us.map_or(0, |before| first - before);
                    self.notes.iter_mut().for_each(|(at_us, _)| *at_us += jump_us);
                    self.trusted_us = Some(last.max(now_us));
                    self.since_jump_us = None;
                }
                is_settled
            }
            _ => {
                self.since_jump_us = Some((now_us, now_us));
                false
            }
        }
    }

    /// Takes a reading for trusted, whatever it is.
    #[cfg(test)]
    pub(crate) fn trust(&mut self, now_us: i64) {
        self.trusted_us = Some(now_us);
    }

    pub(crate) fn expire(&mut self, retention: Retention, now_us: i64) {
        if !self.read_clock(now_us) {
            return;
        }
        self.notes.push((now_us, self.last_seq));
        let reached_before = |kept: std::time::Duration| {
            let before_us = now_us.saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
            let old = self.notes.iter().filter(|(at_us, _)| *at_us <= before_us);
            old.map(|(_, seq)| *seq).max().unwrap_or(0)
        };
        let messages_to = retention.messages.map_or(0, reached_before);
        let keys_to = retention.keys.map_or(0, reached_before).min(messages_to);
        self.messages.retain(|_, (seq, _)| seq.0 > keys_to);
        for (seq, message) in self.messages.values_mut() {
            if seq.0 <= messages_to {
                *message = None;
            }
        }
    }

    /// Returns all messages in the order of listing.
    pub(crate) fn in_order(&self) -> Vec<Message> {
        let stored = self.messages.values().filter_map(|(seq, new)| Some((*seq, new.as_ref()?)));
        let mut all: Vec<Message> = stored.map(|(seq, new)| as_listed(seq, new)).collect();
        all.sort_by_cached_key(Message::place);
        all
    }

    fn stats(&self) -> Stats {
        let all = self.in_order();
        let mut per_sender: BTreeMap<PhoneNumber, u64> = BTreeMap::new();
        for message in &all {
            *per_sender.entry(message.sender.clone()).or_default() += 1;
        }
        let senders_count = per_sender.len() as u64;
        let mut top_senders: Vec<(PhoneNumber, u64)> = per_sender.into_iter().collect();
        top_senders.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        top_senders.truncate(TOP_SENDERS_MAX.into());
        Stats {
            total_messages: all.len() as u64,
            senders_count,
            top_senders,
            first_message_ts: all.first().map(|m| m.sent_at.clone()),
            last_message_ts: all.last().map(|m| m.sent_at.clone()),
        }
    }
}

impl MemoryStore {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

pub(crate) fn matches(filter: &Filter, message: &Message) -> bool {
    filter.sender.as_deref().is_none_or(|sender| message.sender.as_str() == sender)
        && filter.since.as_ref().is_none_or(|since| message.sent_at.time() >= since)
        && filter
            .text
            .as_ref()
            .is_none_or(|query| message.text.as_ref().is_some_and(|text| query.matches(text.as_str())))
}

/// Returns one page of the messages that match, which are in the order of listing.
pub(crate) fn page_of(matching: Vec<Message>, page: &Page) -> Listing {
    let total = matching.len() as u64;
    let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let is_after = |m: &Message| page.after.as_ref().is_none_or(|place| m.place() > *place);
    let mut left = matching.into_iter().filter(is_after).skip(offset).peekable();
    let messages: Vec<Message> = left.by_ref().take(page.limit.into()).collect();
    let next = left.peek().and_then(|_| messages.last()).map(Message::place);
    Listing { messages, total, next }
}

#[async_trait]
impl MessageStore for MemoryStore {
    async fn append(&self, messages: Vec<NewMessage>) -> Result<Vec<Appended>, StoreError> {
        let mut state = self.lock();
        Ok(messages.into_iter().map(|new| state.append(new)).collect())
    }
}

#[async_trait]
impl MessageQuery for MemoryStore {
    async fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError> {
        let matching = self.lock().in_order().into_iter().filter(|m| matches(filter, m)).collect();
        Ok(page_of(matching, page))
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        Ok(self.lock().stats())
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl MessageExpiry for MemoryStore {
    async fn expire(&self, retention: Retention, now: Timestamp) -> Result<(), StoreError> {
        self.lock().expire(retention, now.as_micros());
        Ok(())
    }
}
