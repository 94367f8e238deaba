//! A sorted run: some thousand messages on their way from the tail into the indexes.
//!
//! Each index is written in its own order, so that each of its pages is written once for all entries on it. The run is
//! written in slices, each part of a transaction that has other work: nobody waits for a whole run. Readers ignore its
//! entries until the last slice. A run that a crash cut off is begun again, and finds its entries written.

use std::ops::Range;

use rusqlite::Transaction;

use crate::sqlite::tables::entry::{Entry, Position, Stretch};
use crate::sqlite::tables::key_filter::KeyFilter;
use crate::sqlite::tables::segments::{self, segment_of};
use crate::sqlite::tables::time_counts::TimeCounts;
use crate::sqlite::tables::{INDEXES, keys, senders, totals};

/// A run ends with its block of 2^14 places at the latest. Runs of half that size would write nearly as many pages of an
/// index each. With runs of twice that size, twice as many messages are in the tail: in memory, and read at a start.
const RUN_BITS: u32 = 14;

/// Most rows that a run writes for a message: its key, its entry in each index, and the count of its sender.
pub(crate) const ENTRIES_PER_MESSAGE: usize = INDEXES.len() + 2;

/// Returns the last place of the longest run after this place.
pub(crate) fn end_of_run(indexed_seq: i64) -> i64 {
    (indexed_seq + 1) | ((1 << RUN_BITS) - 1)
}

/// Messages that are being indexed.
pub(crate) struct SortedRun {
    /// Messages of one segment, since its blocks begin and end there.
    messages: Stretch,
    /// Positions of the messages, in the order of the part that is being written.
    order: Vec<Position>,
    /// First message of each sender in this order, and how many it has.
    senders: Vec<(Position, usize)>,
    part: Part,
    /// Rows of the part that are written.
    done: usize,
}

/// Part of a run; they are written one after the other.
#[derive(Clone, Copy)]
enum Part {
    Keys,
    /// One of [`INDEXES`].
    Index(usize),
    SenderCounts,
    Published,
}

impl SortedRun {
    /// Makes a run of all messages that come next after the indexed ones, up to [`end_of_run`] at most.
    pub(crate) fn new(messages: Stretch) -> Self {
        let order = messages.positions().collect();
        let mut run = Self { messages, order, senders: Vec::new(), part: Part::Keys, done: 0 };
        run.sort();
        run
    }

    pub(crate) fn messages(&self) -> &Stretch {
        &self.messages
    }

    pub(crate) fn is_published(&self) -> bool {
        matches!(self.part, Part::Published)
    }

    /// Writes up to `n_rows` rows more, and publishes the run after the last one.
    pub(crate) fn write(
        &mut self,
        tx: &Transaction<'_>,
        filter: &mut KeyFilter,
        n_rows: usize,
    ) -> rusqlite::Result<()> {
        let mut left = n_rows;
        while left > 0 && !self.is_published() {
            let slice = self.done..self.n_rows().min(self.done + left);
            left -= slice.len();
            self.done = slice.end;
            self.write_slice(tx, filter, slice)?;
            if self.done == self.n_rows() {
                self.next(tx, filter)?;
            }
        }
        Ok(())
    }

    fn n_rows(&self) -> usize {
        match self.part {
            Part::SenderCounts => self.senders.len(),
            _ => self.order.len(),
        }
    }

    fn write_slice(
        &self,
        tx: &Transaction<'_>,
        filter: &mut KeyFilter,
        slice: Range<usize>,
    ) -> rusqlite::Result<()> {
        let entries = |slice: Range<usize>| -> Vec<&Entry> {
            self.order[slice].iter().map(|position| self.messages.at(*position)).collect()
        };
        match self.part {
            Part::Keys => keys::insert(tx, filter, &entries(slice)),
            Part::Index(n) => (INDEXES[n].insert)(tx, &entries(slice)),
            Part::SenderCounts => self.senders[slice].iter().try_for_each(|(first, n_messages)| {
                let Stretch { after_seq, to_seq, .. } = self.messages;
                let sender = &self.messages.at(*first).sender;
                senders::write_of_run(tx, (sender, *n_messages), after_seq, to_seq)
            }),
            Part::Published => Ok(()),
        }
    }

    fn next(&mut self, tx: &Transaction<'_>, filter: &KeyFilter) -> rusqlite::Result<()> {
        self.part = match self.part {
            Part::Keys => Part::Index(0),
            Part::Index(n) if n + 1 < INDEXES.len() => Part::Index(n + 1),
            Part::Index(_) => Part::SenderCounts,
            Part::SenderCounts | Part::Published => {
                self.publish(tx, filter)?;
                Part::Published
            }
        };
        self.done = 0;
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        let Self { messages, order, .. } = self;
        let at = |position: &Position| messages.at(*position);
        match self.part {
            Part::Keys => order.sort_by_cached_key(|position| at(position).key),
            Part::Index(n) => (INDEXES[n].sort)(order, messages),
            Part::SenderCounts => {
                let of_sender = order.chunk_by(|a, b| at(a).sender == at(b).sender);
                self.senders = of_sender.map(|of_sender| (of_sender[0], of_sender.len())).collect();
            }
            Part::Published => {}
        }
    }

    fn publish(&self, tx: &Transaction<'_>, filter: &KeyFilter) -> rusqlite::Result<()> {
        TimeCounts::of(self.messages.iter().map(|e| e.ts_us)).add(tx)?;
        let to_seq = self.messages.to_seq;
        totals::set_indexed(tx, to_seq)?;
        let segment = segment_of(to_seq);
        if segment_of(to_seq + 1) > segment {
            // All of them may have been deleted. Nothing goes by this time any more.
            let last_received_at_us = self.messages.iter().map(|e| e.received_at_us).max().unwrap_or(0);
            segments::insert(tx, segment, last_received_at_us, &filter.column(segment))?;
        }
        Ok(())
    }
}
