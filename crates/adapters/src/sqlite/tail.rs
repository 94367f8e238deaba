//! The messages that are stored, but not yet in the indexes: their keys, and what the indexes need.

use std::collections::{HashMap, VecDeque};

use super::key_filter::Key;

/// What the indexes hold of a message.
pub(super) struct Entry {
    pub(super) seq: i64,
    pub(super) key: Key,
    pub(super) received_at_us: i64,
    pub(super) sender: Box<str>,
    pub(super) ts_us: i64,
    pub(super) ts_finer: Box<str>,
    pub(super) message_id: Box<str>,
}

#[derive(Default)]
pub(super) struct Tail {
    seqs: HashMap<Key, i64>,
    /// Of these keys, those that no run has taken; in order of arrival.
    waiting: VecDeque<Entry>,
}

impl Tail {
    pub(super) fn push(&mut self, entry: Entry) {
        self.seqs.insert(entry.key, entry.seq);
        self.waiting.push_back(entry);
    }

    pub(super) fn seq(&self, key: &Key) -> Option<i64> {
        self.seqs.get(key).copied()
    }

    /// How many messages no run has taken.
    pub(super) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The next of these, in order of arrival. They stay known until they are forgotten.
    pub(super) fn take(&mut self, n_max: usize) -> Vec<Entry> {
        self.waiting.drain(..n_max.min(self.waiting.len())).collect()
    }

    /// What is in the ledger need not be known here.
    pub(super) fn forget(&mut self, keys: impl Iterator<Item = Key>) {
        for key in keys {
            self.seqs.remove(&key);
        }
    }
}
