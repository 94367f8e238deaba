//! The disk of these tests: a store in memory that remembers each try, and fails as the scheduler's random numbers say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use domain::contract::Sample;
use domain::memory::MemoryStore;
use domain::message::NewMessage;
use domain::query::{Filter, MessageQuery, Page};
use domain::store::{Appended, MessageStore, Seq, StoreError, StoreErrorKind};
use futures_util::FutureExt;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::yield_now;

use crate::group_commit::{Bounds, Commit, Write, queued_bytes};

/// Fate of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stored,
    Busy,
    Unavailable,
    /// The error is of the commit itself, and it is on disk.
    UnknownStored,
    /// The error is of the commit itself, and it is not.
    UnknownLost,
    /// The thread panics.
    Panic,
}

/// One try to commit: the ids of its deliveries, and what was answered.
pub(crate) struct Try {
    /// Appends and orders.
    pub(crate) n_writes: usize,
    pub(crate) deliveries: Vec<Vec<String>>,
    pub(crate) result: Result<(), StoreErrorKind>,
}

/// The disk; a clone is the same disk.
#[derive(Clone)]
pub(crate) struct Disk {
    bounds: Bounds,
    state: Arc<Mutex<State>>,
}

struct State {
    fates: &'static [Fate],
    store: MemoryStore,
    tries: Vec<Try>,
    /// Chores to do while no write waits.
    n_chores: usize,
    has_panicked: bool,
    is_closed: bool,
}

impl Disk {
    pub(crate) fn new(bounds: Bounds, fates: &'static [Fate]) -> Self {
        let store = MemoryStore::default();
        let state =
            State { fates, store, tries: Vec::new(), n_chores: 0, has_panicked: false, is_closed: false };
        Self { bounds, state: Arc::new(Mutex::new(state)) }
    }

    /// From now on every commit is stored, but for bad messages.
    pub(crate) fn heal(&self) {
        self.state().fates = &[Fate::Stored];
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.state().has_panicked
    }

    pub(crate) fn n_tries(&self) -> usize {
        self.state().tries.len()
    }

    /// Returns what `look` finds in the tries after the first `n_tries`.
    pub(crate) fn since<T>(&self, n_tries: usize, look: impl FnOnce(&[Try]) -> T) -> T {
        look(&self.state().tries[n_tries..])
    }

    /// The place of each stored id.
    pub(crate) fn stored(&self) -> BTreeMap<String, Seq> {
        let listing =
            self.state().store.list(&Filter::default(), &Page::at(100, 0)).now_or_never().unwrap().unwrap();
        assert_eq!(listing.total, listing.messages.len() as u64);
        listing.messages.into_iter().map(|m| (m.key.message_id.as_str().to_owned(), m.seq)).collect()
    }

    /// Never held where the scheduler may let another go on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.try_lock().unwrap()
    }

    fn check_bounds(&self, deliveries: &[&[NewMessage]]) {
        let but_the_last = &deliveries[..deliveries.len() - 1];
        let n_messages: usize = but_the_last.iter().map(|d| d.len()).sum();
        let n_bytes: usize = but_the_last.iter().map(|d| queued_bytes(d)).sum();
        assert!(n_messages < self.bounds.batch_messages_max, "{n_messages} messages before the last");
        assert!(n_bytes < self.bounds.batch_bytes_max, "{n_bytes} bytes before the last");
    }
}

impl Commit for Disk {
    type Order = ();

    fn commit(&mut self, writes: &[&Write<()>]) -> Result<Vec<Vec<Appended>>, StoreError> {
        let deliveries: Vec<&[NewMessage]> = writes.iter().map(|write| write.messages()).collect();
        self.check_bounds(&deliveries);
        for _ in 0..thread_rng().gen_range(0..3) {
            yield_now();
        }
        let mut state = self.state();
        assert!(!state.is_closed);
        let fate = state.fates[thread_rng().gen_range(0..state.fates.len())];
        let result = if deliveries.iter().any(|d| is_bad(d)) {
            Err(StoreErrorKind::Fault)
        } else {
            match fate {
                Fate::Stored => Ok(()),
                Fate::Busy => Err(StoreErrorKind::Busy),
                Fate::Unavailable => Err(StoreErrorKind::Unavailable),
                Fate::UnknownStored | Fate::UnknownLost => Err(StoreErrorKind::Unknown),
                // Without the hook, which would take it for the test's.
                Fate::Panic => {
                    state.has_panicked = true;
                    drop(state);
                    std::panic::resume_unwind(Box::new(fate));
                }
            }
        };
        let mut appended = Vec::new();
        if result.is_ok() || (fate == Fate::UnknownStored && result == Err(StoreErrorKind::Unknown)) {
            for delivery in &deliveries {
                appended.push(state.store.append(delivery.to_vec()).now_or_never().unwrap()?);
            }
        }
        let appends = writes.iter().filter(|write| matches!(write, Write::Append(_)));
        state.tries.push(Try {
            n_writes: writes.len(),
            deliveries: appends.map(|write| ids(write.messages())).collect(),
            result,
        });
        state.n_chores = if result.is_ok() { thread_rng().gen_range(0..3) } else { 0 };
        drop(state);
        yield_now();
        result.map(|()| appended).map_err(|kind| StoreError::new(kind, "commit", format!("{fate:?}")))
    }

    fn tidy(&mut self) {
        yield_now();
    }

    fn has_chores(&self) -> bool {
        self.state().n_chores > 0
    }

    /// One that fails is a try of nothing that failed.
    fn do_chores(&mut self) -> Result<(), StoreError> {
        yield_now();
        let mut state = self.state();
        assert!(!state.is_closed);
        if state.fates[thread_rng().gen_range(0..state.fates.len())] == Fate::Unavailable {
            let kind = StoreErrorKind::Unavailable;
            state.n_chores = 0;
            state.tries.push(Try { n_writes: 0, deliveries: Vec::new(), result: Err(kind) });
            return Err(StoreError::new(kind, "chores", "no space"));
        }
        state.n_chores -= 1;
        Ok(())
    }

    fn close(&mut self) {
        yield_now();
        self.state().is_closed = true;
    }
}

/// A message that the disk always refuses.
pub(crate) fn bad(id: &str) -> Sample {
    Sample::id(id).text(None)
}

pub(crate) fn is_bad(delivery: &[NewMessage]) -> bool {
    delivery.iter().any(|m| m.content.text.is_none())
}

pub(crate) fn ids(delivery: &[NewMessage]) -> Vec<String> {
    delivery.iter().map(|m| m.content.message_id.as_str().to_owned()).collect()
}
