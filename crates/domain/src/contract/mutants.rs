//! Stores with one fault each: the suite has to find every fault, and none in the reference model.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;

use super::ask::pause;
use super::{PROMISES, Promise, Store, Stores};
use crate::memory::{MemoryStore, matches, page_of};
use crate::message::{MessageId, NewMessage, SentAt};
use crate::query::{Filter, Listing, Message, MessageQuery, Page, Stats};
use crate::retention::{MessageExpiry, Retention};
use crate::store::{Appended, MessageStore, StoreError};
use crate::time::Timestamp;

/// Polls of one promise at most: a promise that goes on has run into a circle.
const POLLS_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// None: it is the model.
    None,
    /// Looks whether a key is there, and inserts later.
    CheckThenInsert,
    /// Takes the total of a listing from one snapshot and the page from a later one.
    TwoSnapshots,
    /// Compares texts in lower case.
    LowerCase,
    /// Keeps nine digits of a fraction.
    NineDigits,
    /// Stores the messages of an append one after the other.
    AppendInParts,
    /// Lists a message at another place than it was appended at.
    AnotherPlace,
    /// Throws the body away, so that nobody can compare it.
    NoBody,
    /// Shows a message only after the next query.
    StaleRead,
    /// Shows a handle only its own messages.
    OwnMessagesOnly,
    /// Compares ids without regard to case.
    CaselessIds,
    /// Sorts ids as UTF-16 does.
    Utf16Order,
    /// Forgets the key of a message that expires.
    ForgottenKeys,
    /// Believes every reading of the clock.
    AnyClock,
}

/// Each fault, and the promise that finds it whatever else does.
const FAULTS: [(Fault, &str); 13] = [
    (Fault::CheckThenInsert, "of_racing_appends_at_most_one_stores"),
    (Fault::TwoSnapshots, "a_listing_is_one_snapshot"),
    (Fault::LowerCase, "case_is_folded_in_full"),
    (Fault::NineDigits, "a_fraction_of_any_allowed_length_counts"),
    (Fault::AppendInParts, "a_delivery_is_seen_whole_or_not_at_all"),
    (Fault::AnotherPlace, "a_store_answers_as_the_reference_model_does"),
    (Fault::NoBody, "the_first_message_of_a_key_is_stored_and_the_second_is_not"),
    (Fault::StaleRead, "an_appended_message_is_seen_by_the_next_query"),
    (Fault::OwnMessagesOnly, "a_message_is_seen_through_another_handle"),
    (Fault::CaselessIds, "ids_are_compared_byte_for_byte"),
    (Fault::Utf16Order, "ids_are_listed_in_byte_order"),
    (Fault::ForgottenKeys, "an_expired_message_is_gone_and_its_key_is_not"),
    (Fault::AnyClock, "a_clock_that_jumps_removes_nothing"),
];

struct Mutant {
    fault: Fault,
    store: MemoryStore,
    /// The listing before the last append.
    stale: Mutex<Option<Vec<Message>>>,
}

impl Mutant {
    fn messages(&self, filter: &Filter) -> Vec<Message> {
        let stale = self.stale.lock().unwrap().take();
        let mut all = stale.unwrap_or_else(|| self.store.lock().in_order());
        match self.fault {
            Fault::AnotherPlace => all.iter_mut().for_each(|m| m.seq.0 += 1),
            Fault::Utf16Order => all.sort_by_key(|m| {
                let id: Vec<u16> = m.key.message_id.as_str().encode_utf16().collect();
                (m.sent_at.time().clone(), id, m.seq)
            }),
            _ => {}
        }
        if self.fault != Fault::LowerCase {
            return all.into_iter().filter(|m| matches(filter, m)).collect();
        }
        let folded = filter.text.as_ref().map(|text| text.folded().to_lowercase());
        let others = Filter { text: None, ..filter.clone() };
        let has_text = |m: &Message| {
            folded.as_ref().is_none_or(|folded| {
                m.text.as_ref().is_some_and(|text| text.as_str().to_lowercase().contains(folded.as_str()))
            })
        };
        all.into_iter().filter(|m| matches(&others, m) && has_text(m)).collect()
    }
}

#[async_trait]
impl MessageStore for Mutant {
    async fn append(&self, mut messages: Vec<NewMessage>) -> Result<Vec<Appended>, StoreError> {
        match self.fault {
            Fault::CheckThenInsert => {
                let mut appended = Vec::new();
                for new in messages {
                    let is_there = self.store.lock().messages.contains_key(&new.key());
                    pause().await;
                    let mut state = self.store.lock();
                    appended.push(if is_there { state.append(new) } else { state.store(new.key(), new) });
                }
                return Ok(appended);
            }
            Fault::AppendInParts => {
                let mut appended = Vec::new();
                for new in messages {
                    appended.push(self.store.lock().append(new));
                    pause().await;
                }
                return Ok(appended);
            }
            Fault::NineDigits => {
                for new in &mut messages {
                    let ts = new.content.sent_at.as_str();
                    if let Some((whole, fraction)) = ts.trim_end_matches('Z').split_once('.') {
                        let ts = format!("{whole}.{}Z", &fraction[..fraction.len().min(9)]);
                        new.content.sent_at = SentAt::parse(ts).unwrap();
                    }
                }
            }
            Fault::CaselessIds => {
                for new in &mut messages {
                    let id = new.content.message_id.as_str().to_lowercase();
                    new.content.message_id = MessageId::parse(id).unwrap();
                }
            }
            Fault::StaleRead if !messages.is_empty() => {
                *self.stale.lock().unwrap() = Some(self.store.lock().in_order());
            }
            _ => {}
        }
        let mut appended = self.store.append(messages).await?;
        if self.fault == Fault::NoBody {
            for appended in &mut appended {
                if let Appended::Existing { digest, .. } = appended {
                    *digest = None;
                }
            }
        }
        Ok(appended)
    }
}

#[async_trait]
impl MessageQuery for Mutant {
    async fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError> {
        if self.fault == Fault::TwoSnapshots {
            let total = self.messages(filter).len() as u64;
            pause().await;
            return Ok(Listing { total, ..page_of(self.messages(filter), page) });
        }
        Ok(page_of(self.messages(filter), page))
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.store.stats().await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl MessageExpiry for Mutant {
    async fn expire(&self, retention: Retention, now: Timestamp) -> Result<(), StoreError> {
        let mut state = self.store.lock();
        if self.fault == Fault::AnyClock {
            state.trust(now.as_micros());
        }
        state.expire(retention, now.as_micros());
        if self.fault == Fault::ForgottenKeys {
            state.messages.retain(|_, (_, message)| message.is_some());
        }
        Ok(())
    }
}

struct Mutants {
    fault: Fault,
    store: RefCell<MemoryStore>,
}

impl Stores for Mutants {
    fn open(&self) -> Arc<dyn Store> {
        if self.fault == Fault::OwnMessagesOnly {
            self.store.replace(MemoryStore::default());
        }
        let store = self.store.borrow().clone();
        Arc::new(Mutant { fault: self.fault, store, stale: Mutex::default() })
    }
}

/// Returns true if the promise is kept.
fn keeps(fault: Fault, promise: Promise) -> bool {
    let stores = Mutants { fault, store: RefCell::default() };
    let run = || {
        let mut promise = pin!(promise(&stores));
        let mut context = Context::from_waker(Waker::noop());
        let is_done = (0..POLLS_MAX).any(|_| matches!(promise.as_mut().poll(&mut context), Poll::Ready(())));
        assert!(is_done, "the promise waits");
    };
    catch_unwind(AssertUnwindSafe(run)).is_ok()
}

/// Whoever changes the model learns what that does to the suite, and the other way round.
#[test]
fn the_model_keeps_every_promise() {
    for (name, promise) in PROMISES {
        assert!(keeps(Fault::None, *promise), "{name}");
    }
}

#[test]
fn every_fault_breaks_the_promise_that_is_about_it() {
    for (fault, about_it) in FAULTS {
        let (_, promise) = PROMISES.iter().find(|(name, _)| *name == about_it).unwrap();
        assert!(!keeps(fault, *promise), "{about_it} does not find {fault:?}");
    }
}
