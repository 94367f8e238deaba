//! The tail: messages that are stored and not indexed yet, as their index entries.
//!
//! The writer adds messages when it has committed them, and removes them when it has indexed them. A query finds here the
//! messages that the indexes of its snapshot lack.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rusqlite::{Connection, Transaction};

use crate::sqlite::tables::entry::{Batch, Entry, Stretch};
use crate::sqlite::tables::{messages, totals};

fn first_seq_of(batch: &Batch) -> i64 {
    batch[0].seq
}

fn last_seq_of(batch: &Batch) -> i64 {
    batch[batch.len() - 1].seq
}

/// The tail of one store; a clone is the same tail.
#[derive(Clone, Default)]
pub(crate) struct Tail {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    /// In order of arrival.
    batches: VecDeque<Batch>,
    /// Messages that had been deleted when the batches were read.
    deleted_count: i64,
}

impl Tail {
    /// Adds messages that were committed, next in order of arrival.
    pub(crate) fn push(&self, entries: Vec<Entry>) {
        if !entries.is_empty() {
            self.write().batches.push_back(entries.into());
        }
    }

    /// Removes messages up to a place: the indexes have them, and that is committed.
    pub(crate) fn forget(&self, indexed_seq: i64) {
        let mut known = self.write();
        let n = known.batches.partition_point(|batch| last_seq_of(batch) <= indexed_seq);
        let forgotten: Vec<Batch> = known.batches.drain(..n).collect();
        // Nobody waits while the memory is freed.
        drop(known);
        drop(forgotten);
    }

    /// Reads the tail from the database; returns it.
    pub(crate) fn reload(&self, db: &Connection) -> rusqlite::Result<Stretch> {
        let (indexed_seq, last_seq, deleted_count) = totals::bounds_and_deleted(db)?;
        let unindexed = messages::entries(db, indexed_seq, last_seq)?;
        *self.write() = Known { batches: unindexed.batches.iter().cloned().collect(), deleted_count };
        Ok(unindexed)
    }

    /// Returns the messages after a place, up to another.
    pub(crate) fn between(&self, after_seq: i64, to_seq: i64) -> Stretch {
        let batches = &self.read().batches;
        let n_before = batches.partition_point(|batch| last_seq_of(batch) <= after_seq);
        let n = batches.partition_point(|batch| first_seq_of(batch) <= to_seq);
        Stretch { batches: batches.range(n_before..n.max(n_before)).cloned().collect(), after_seq, to_seq }
    }

    /// Begins the snapshot of a transaction, and returns the messages that the indexes of the snapshot lack.
    pub(crate) fn unindexed(&self, tx: &Transaction<'_>) -> rusqlite::Result<Stretch> {
        let known = self.read();
        // While this is locked, nothing is removed that the indexes of the snapshot lack.
        let (indexed_seq, last_seq, deleted_count) = totals::bounds_and_deleted(tx)?;
        let is_as_known = known.deleted_count == deleted_count;
        // Otherwise some of them are gone, and the writer has not noticed yet: it has nothing to write.
        let mut batches: Vec<Batch> = known.batches.iter().filter(|_| is_as_known).cloned().collect();
        drop(known);
        let known_seq = batches.last().map_or(0, last_seq_of).max(indexed_seq);
        if known_seq < last_seq {
            // Committed just now, or by another process.
            batches.extend(messages::entries(tx, known_seq, last_seq)?.batches);
        }
        Ok(Stretch { batches, after_seq: indexed_seq, to_seq: last_seq })
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}
