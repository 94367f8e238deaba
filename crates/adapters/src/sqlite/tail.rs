//! The messages that are stored, but not yet in the indexes: what these will have of them.
//!
//! The writer adds what it has committed, and takes away what it has indexed. Questions find here what the indexes
//! of their snapshot leave out.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::digest::sha256;
use rusqlite::{Connection, Row, Transaction, params};

use crate::sqlite::order::{Place, finer};
use crate::sqlite::tables::key_filter::Key;

/// What the indexes have of a message.
pub(super) struct Entry {
    pub(super) seq: i64,
    pub(super) key: Key,
    pub(super) received_at_us: i64,
    pub(super) sender: Box<str>,
    pub(super) ts_us: i64,
    pub(super) ts_finer: Option<Box<str>>,
    pub(super) message_id: Box<str>,
}

impl Entry {
    /// Its place in the order of every listing.
    pub(super) fn place(&self) -> Place<'_> {
        (self.ts_us, self.ts_finer.as_deref(), &self.message_id, self.seq)
    }

    /// What it takes up in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let ts_finer = self.ts_finer.as_ref().map_or(0, |digits| digits.len());
        size_of::<Self>() + self.sender.len() + ts_finer + self.message_id.len()
    }
}

/// Entries of a batch that is read from the database: as many as a commit stores.
const BATCH_ENTRIES: usize = 512;

/// What was committed at once, in order of arrival; never empty.
type Batch = Arc<[Entry]>;

fn first_seq_of(batch: &Batch) -> i64 {
    batch[0].seq
}

fn last_seq_of(batch: &Batch) -> i64 {
    batch[batch.len() - 1].seq
}

/// Messages that came one after the other.
pub(super) struct Stretch {
    batches: Vec<Batch>,
    /// The place before the first.
    pub(super) after_seq: i64,
    /// That of the last.
    pub(super) to_seq: i64,
}

/// Where a message is found in a stretch.
#[derive(Clone, Copy)]
pub(super) struct Position {
    batch: usize,
    entry: usize,
}

impl Stretch {
    /// In order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.positions().map(|position| self.at(position))
    }

    /// In order of arrival.
    pub(super) fn positions(&self) -> impl Iterator<Item = Position> {
        let all = (0..self.batches.len())
            .flat_map(|batch| (0..self.batches[batch].len()).map(move |entry| Position { batch, entry }));
        all.skip_while(|p| self.at(*p).seq <= self.after_seq).take_while(|p| self.at(*p).seq <= self.to_seq)
    }

    pub(super) fn at(&self, position: Position) -> &Entry {
        &self.batches[position.batch][position.entry]
    }
}

/// A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Tail {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    /// In order of arrival.
    batches: VecDeque<Batch>,
    /// How many messages had been deleted when they were read.
    deleted_count: i64,
}

impl Tail {
    /// Adds what was committed, next in order of arrival.
    pub(super) fn push(&self, entries: Vec<Entry>) {
        if !entries.is_empty() {
            self.write().batches.push_back(entries.into());
        }
    }

    /// Takes away what is in the indexes up to here, which was committed, too.
    pub(super) fn forget(&self, indexed_seq: i64) {
        let mut known = self.write();
        let n = known.batches.partition_point(|batch| last_seq_of(batch) <= indexed_seq);
        let forgotten: Vec<Batch> = known.batches.drain(..n).collect();
        // Nobody waits while the memory is given back.
        drop(known);
        drop(forgotten);
    }

    /// Reads anew what is in no index.
    pub(super) fn reload(&self, db: &Connection) -> rusqlite::Result<Stretch> {
        let (indexed_seq, last_seq) = bounds(db)?;
        let unindexed = self.stored(db, indexed_seq, last_seq)?;
        let deleted_count = deleted_count(db)?;
        *self.write() = Known { batches: unindexed.batches.iter().cloned().collect(), deleted_count };
        Ok(unindexed)
    }

    /// What came after a place up to another, all of it not forgotten yet.
    pub(super) fn between(&self, after_seq: i64, to_seq: i64) -> Stretch {
        let batches = &self.read().batches;
        let n_before = batches.partition_point(|batch| last_seq_of(batch) <= after_seq);
        let n = batches.partition_point(|batch| first_seq_of(batch) <= to_seq);
        Stretch { batches: batches.range(n_before..n.max(n_before)).cloned().collect(), after_seq, to_seq }
    }

    /// What the indexes leave out in the snapshot of a transaction, which begins with this.
    pub(super) fn unindexed(&self, tx: &Transaction<'_>) -> rusqlite::Result<Stretch> {
        let known = self.read();
        // As long as this is locked, nothing is forgotten that the snapshot has in no index.
        let (indexed_seq, last_seq) = bounds(tx)?;
        let is_as_known = known.deleted_count == deleted_count(tx)?;
        // Else some of them are gone, and the writer has not noticed yet: it has nothing to write.
        let mut batches: Vec<Batch> = known.batches.iter().filter(|_| is_as_known).cloned().collect();
        drop(known);
        let known_seq = batches.last().map_or(0, last_seq_of).max(indexed_seq);
        if known_seq < last_seq {
            // Committed just now, or by another process.
            batches.extend(self.stored(tx, known_seq, last_seq)?.batches);
        }
        Ok(Stretch { batches, after_seq: indexed_seq, to_seq: last_seq })
    }

    /// What came after a place up to another, from the rows.
    pub(super) fn stored(&self, db: &Connection, after_seq: i64, to_seq: i64) -> rusqlite::Result<Stretch> {
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
        let mut batches = Vec::new();
        while stored.peek().is_some() {
            let batch: Vec<Entry> = stored.by_ref().take(BATCH_ENTRIES).collect::<rusqlite::Result<_>>()?;
            batches.push(batch.into());
        }
        Ok(Stretch { batches, after_seq, to_seq })
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message's key in the ledger.
pub(super) fn key(source_id: i64, message_id: &str) -> Key {
    let digest = sha256(&[&source_id.to_be_bytes(), message_id.as_bytes()].concat());
    std::array::from_fn(|i| digest.0[i])
}

/// The last place that is indexed, and that is taken.
pub(super) fn bounds(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    db.prepare_cached("SELECT indexed_seq, last_seq FROM totals")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// How many messages have been deleted, which is not expiry.
fn deleted_count(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("SELECT deleted_count FROM totals")?.query_row([], |row| row.get(0))
}
