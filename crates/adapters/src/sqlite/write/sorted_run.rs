//! A sorted run: some thousand messages on their way from the tail into the indexes.
//!
//! An index is written in its own order, so that a page of it is touched once for all entries that
//! go there. It is done in slices, each part of a transaction that has other work: nobody waits for
//! a whole run. Until the last slice, readers take no notice of what is there; a run that a crash cut
//! off is begun again, and finds its entries written.

use std::ops::Range;

use rusqlite::{Transaction, params};

use crate::sqlite::tables::key_filter::{KeyFilter, segment_of};
use crate::sqlite::tables::senders as sender_counts;
use crate::sqlite::tables::time_counts::TimeCounts;
use crate::sqlite::tail::{Entry, Position, Stretch};

/// A run ends with its block of 2^14 places at the latest. Runs of half of them would touch nearly as many pages
/// of an index each; of twice as many, twice as many are in the tail: in memory, and to be read at a start.
const RUN_BITS: u32 = 14;

/// What a run writes for a message at most: an entry of each index, and the count of its sender.
pub(crate) const ENTRIES_PER_MESSAGE: usize = 4;

/// The last place of the longest run after this place.
pub(crate) fn end_of_run(indexed_seq: i64) -> i64 {
    (indexed_seq + 1) | ((1 << RUN_BITS) - 1)
}

pub(crate) struct Run {
    /// Of one segment, since its blocks begin and end there.
    messages: Stretch,
    /// These in the order of the index that is being written.
    order: Vec<Position>,
    /// The first message of each sender in this order, and how many it has.
    senders: Vec<(Position, usize)>,
    index: Index,
    /// How many of its entries are written.
    done: usize,
}

/// What is written, one after the other.
#[derive(Clone, Copy)]
enum Index {
    Keys,
    Time,
    Sender,
    SenderCounts,
    Published,
}

impl Run {
    /// Of all messages that come next after what is indexed, up to [`end_of_run`] at most.
    pub(crate) fn new(messages: Stretch) -> Self {
        let order = messages.positions().collect();
        let mut run = Self { messages, order, senders: Vec::new(), index: Index::Keys, done: 0 };
        run.sort();
        run
    }

    pub(crate) fn messages(&self) -> &Stretch {
        &self.messages
    }

    pub(crate) fn is_published(&self) -> bool {
        matches!(self.index, Index::Published)
    }

    /// Writes so many entries more, and after the last one publishes all of them.
    pub(crate) fn write(
        &mut self,
        tx: &Transaction<'_>,
        filter: &mut KeyFilter,
        n_entries: usize,
    ) -> rusqlite::Result<()> {
        let mut left = n_entries;
        while left > 0 && !self.is_published() {
            let slice = self.done..self.n_entries().min(self.done + left);
            left -= slice.len();
            self.done = slice.end;
            self.write_slice(tx, filter, slice)?;
            if self.done == self.n_entries() {
                self.next(tx, filter)?;
            }
        }
        Ok(())
    }

    fn n_entries(&self) -> usize {
        match self.index {
            Index::SenderCounts => self.senders.len(),
            _ => self.order.len(),
        }
    }

    fn write_slice(
        &self,
        tx: &Transaction<'_>,
        filter: &mut KeyFilter,
        slice: Range<usize>,
    ) -> rusqlite::Result<()> {
        let entries =
            |slice: Range<usize>| self.order[slice].iter().map(|position| self.messages.at(*position));
        match self.index {
            Index::Keys => write_keys(tx, filter, entries(slice)),
            Index::Time => write_times(tx, entries(slice)),
            Index::Sender => write_senders(tx, entries(slice)),
            Index::SenderCounts => self.senders[slice].iter().try_for_each(|(first, n_messages)| {
                let Stretch { after_seq, to_seq, .. } = self.messages;
                sender_counts::write_of_run(
                    tx,
                    (&self.messages.at(*first).sender, *n_messages),
                    after_seq,
                    to_seq,
                )
            }),
            Index::Published => Ok(()),
        }
    }

    fn next(&mut self, tx: &Transaction<'_>, filter: &KeyFilter) -> rusqlite::Result<()> {
        self.index = match self.index {
            Index::Keys => Index::Time,
            Index::Time => Index::Sender,
            Index::Sender => Index::SenderCounts,
            Index::SenderCounts | Index::Published => {
                self.publish(tx, filter)?;
                Index::Published
            }
        };
        self.done = 0;
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        let Self { messages, order, .. } = self;
        let at = |position: &Position| messages.at(*position);
        match self.index {
            Index::Keys => order.sort_by_cached_key(|p| at(p).key),
            Index::Time => order.sort_by_cached_key(|p| at(p).place()),
            // Each sender's stay in order of time.
            Index::Sender => order.sort_by_cached_key(|p| &at(p).sender),
            Index::SenderCounts => {
                let of_sender = order.chunk_by(|a, b| at(a).sender == at(b).sender);
                self.senders = of_sender.map(|of_sender| (of_sender[0], of_sender.len())).collect();
            }
            Index::Published => {}
        }
    }

    fn publish(&self, tx: &Transaction<'_>, filter: &KeyFilter) -> rusqlite::Result<()> {
        TimeCounts::of(self.messages.iter().map(|e| e.ts_us)).add(tx)?;
        let to_seq = self.messages.to_seq;
        tx.prepare_cached("UPDATE totals SET indexed_seq = ?1")?.execute([to_seq])?;
        let segment = segment_of(to_seq);
        if segment_of(to_seq + 1) > segment {
            // All of them may have been deleted. Nothing goes by it any more.
            let last_received_at_us = self.messages.iter().map(|e| e.received_at_us).max().unwrap_or(0);
            tx.prepare_cached(
                "INSERT INTO segments (segment, last_received_at_us, key_filter) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![segment, last_received_at_us, filter.column(segment)])?;
        }
        Ok(())
    }
}

fn write_keys<'a>(
    tx: &Transaction<'_>,
    filter: &mut KeyFilter,
    entries: impl Iterator<Item = &'a Entry>,
) -> rusqlite::Result<()> {
    let mut insert =
        tx.prepare_cached("INSERT OR IGNORE INTO message_keys (segment, key, seq) VALUES (?1, ?2, ?3)")?;
    for Entry { seq, key, .. } in entries {
        let segment = segment_of(*seq);
        insert.execute(params![segment, key, seq])?;
        filter.insert(segment, key);
    }
    Ok(())
}

fn write_times<'a>(tx: &Transaction<'_>, entries: impl Iterator<Item = &'a Entry>) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO messages_by_time (ts_us, ts_finer, message_id, seq) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for Entry { seq, ts_us, ts_finer, message_id, .. } in entries {
        insert.execute(params![ts_us, ts_finer.as_deref().unwrap_or(""), message_id, seq])?;
    }
    Ok(())
}

fn write_senders<'a>(tx: &Transaction<'_>, entries: impl Iterator<Item = &'a Entry>) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO messages_by_sender (segment, sender, ts_us, ts_finer, message_id, seq) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for Entry { seq, sender, ts_us, ts_finer, message_id, .. } in entries {
        let ts_finer = ts_finer.as_deref().unwrap_or("");
        insert.execute(params![segment_of(*seq), sender, ts_us, ts_finer, message_id, seq])?;
    }
    Ok(())
}
