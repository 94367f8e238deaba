//! A sorted run: some thousand messages on their way from the tail into the indexes.
//!
//! An index is written in its own order, so that a page of it is touched once for all entries that
//! go there. It is done in slices, each part of a transaction that has other work, or of one of its
//! own when there is none: nobody waits for a whole run. Until the last slice, readers take no notice
//! of what is there; a run that a crash cut off is begun again, and finds its entries written.

use rusqlite::{Transaction, params};

use super::key_filter::{Key, KeyFilter, segment_of};
use super::tail::Entry;
use super::time_counts::TimeCounts;

/// Messages of a run. Half of them touch nearly as many pages; twice as many are twice as long in the
/// tail, which every question reads.
pub(super) const RUN_MESSAGES: usize = 4096;

/// Entries that a message has in the indexes.
pub(super) const ENTRIES_PER_MESSAGE: usize = 3;

pub(super) struct Run {
    entries: Vec<Entry>,
    /// The last place that was indexed before, and that will be after.
    from_seq: i64,
    to_seq: i64,
    last_received_at_us: i64,
    index: Index,
    /// How many entries the index has got.
    done: usize,
    counts: TimeCounts,
}

/// The indexes, in the order in which they are written.
#[derive(Clone, Copy)]
enum Index {
    Keys,
    Time,
    Sender,
    Published,
}

impl Run {
    /// Of messages in order of arrival, all that came after `from_seq` up to the last of them.
    pub(super) fn new(entries: Vec<Entry>, from_seq: i64) -> Self {
        let to_seq = entries.last().map_or(from_seq, |e| e.seq);
        let last_received_at_us = entries.iter().map(|e| e.received_at_us).max().unwrap_or(i64::MIN);
        let counts = TimeCounts::of(entries.iter().map(|e| e.ts_us));
        let mut run =
            Self { entries, from_seq, to_seq, last_received_at_us, index: Index::Keys, done: 0, counts };
        run.sort();
        run
    }

    pub(super) fn is_published(&self) -> bool {
        matches!(self.index, Index::Published)
    }

    /// The last place that is indexed when it is published.
    pub(super) fn to_seq(&self) -> i64 {
        self.to_seq
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.entries.iter().map(|e| e.key)
    }

    /// Writes so many entries more, and after the last one publishes all of them.
    pub(super) fn write(
        &mut self,
        tx: &Transaction<'_>,
        filter: &mut KeyFilter,
        n_entries: usize,
    ) -> rusqlite::Result<()> {
        let mut left = n_entries;
        while left > 0 && !self.is_published() {
            let n = left.min(self.entries.len() - self.done);
            let slice = &self.entries[self.done..self.done + n];
            match self.index {
                Index::Keys => write_keys(tx, filter, slice)?,
                Index::Time => write_times(tx, slice)?,
                Index::Sender => write_senders(tx, slice)?,
                Index::Published => {}
            }
            left -= n;
            self.done += n;
            if self.done == self.entries.len() {
                self.next(tx, filter)?;
            }
        }
        Ok(())
    }

    fn next(&mut self, tx: &Transaction<'_>, filter: &KeyFilter) -> rusqlite::Result<()> {
        self.index = match self.index {
            Index::Keys => Index::Time,
            Index::Time => Index::Sender,
            Index::Sender | Index::Published => {
                self.publish(tx, filter)?;
                Index::Published
            }
        };
        self.done = 0;
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        match self.index {
            Index::Keys => self.entries.sort_unstable_by_key(|e| (segment_of(e.seq), e.key)),
            Index::Time => self.entries.sort_unstable_by(|a, b| by_time(a).cmp(&by_time(b))),
            Index::Sender => self.entries.sort_unstable_by(|a, b| by_sender(a).cmp(&by_sender(b))),
            Index::Published => {}
        }
    }

    fn publish(&self, tx: &Transaction<'_>, filter: &KeyFilter) -> rusqlite::Result<()> {
        self.counts.add(tx)?;
        tx.prepare_cached("UPDATE totals SET indexed_seq = ?1")?.execute([self.to_seq])?;
        // Those segments whose last place is indexed now.
        for segment in segment_of(self.from_seq + 1)..segment_of(self.to_seq + 1) {
            tx.prepare_cached(
                "INSERT INTO segments (segment, last_received_at_us, key_filter) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![segment, self.last_received_at_us, filter.column(segment)])?;
        }
        Ok(())
    }
}

fn by_time(entry: &Entry) -> (i64, &str, &str, i64) {
    (entry.ts_us, &entry.ts_finer, &entry.message_id, entry.seq)
}

fn by_sender(entry: &Entry) -> (i64, &str, (i64, &str, &str, i64)) {
    (segment_of(entry.seq), &entry.sender, by_time(entry))
}

fn write_keys(tx: &Transaction<'_>, filter: &mut KeyFilter, slice: &[Entry]) -> rusqlite::Result<()> {
    let mut insert =
        tx.prepare_cached("INSERT OR IGNORE INTO message_keys (segment, key, seq) VALUES (?1, ?2, ?3)")?;
    for Entry { seq, key, .. } in slice {
        let segment = segment_of(*seq);
        insert.execute(params![segment, key, seq])?;
        filter.insert(segment, key);
    }
    Ok(())
}

fn write_times(tx: &Transaction<'_>, slice: &[Entry]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO messages_by_time (ts_us, ts_finer, message_id, seq) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for Entry { seq, ts_us, ts_finer, message_id, .. } in slice {
        insert.execute(params![ts_us, ts_finer, message_id, seq])?;
    }
    Ok(())
}

fn write_senders(tx: &Transaction<'_>, slice: &[Entry]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO messages_by_sender (segment, sender, ts_us, ts_finer, message_id, seq) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for Entry { seq, sender, ts_us, ts_finer, message_id, .. } in slice {
        insert.execute(params![segment_of(*seq), sender, ts_us, ts_finer, message_id, seq])?;
    }
    Ok(())
}
