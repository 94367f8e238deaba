//! The state of the database that the writer remembers from one transaction to the next.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use rusqlite::{Connection, Transaction};

use crate::sqlite::tables::entry::Entry;
use crate::sqlite::tables::key_filter::{Key, KeyFilter};
use crate::sqlite::tables::key_filter_blocks::{Archive, Shape};
use crate::sqlite::tables::keys;
use crate::sqlite::tables::segments::{self, segment_of};
use crate::sqlite::tables::totals::{self, Totals};
use crate::sqlite::tail::Tail;
use crate::sqlite::write::expiry::{self, Expiry};
use crate::sqlite::write::sorted_run::{SortedRun, end_of_run};
use crate::sqlite::write::tail_senders::TailSenders;
use crate::sqlite::write::top_senders::TopSenders;

/// Rows of a run that are written at once: enough that most pages of an index are written once, and not again for each
/// small commit. They take a millisecond or two.
const SLICE_ROWS_MIN: usize = 512;

/// Bytes of the tail in memory from which on it is indexed at once. Only messages that an older version stored, with senders
/// of thousands of digits, come near it.
const TAIL_BYTES_MAX: usize = 64 << 20;

/// State of the database as the writer remembers it.
pub(crate) struct WriterState {
    /// Version of the database that was read: it changes when another connection writes.
    data_version: i64,
    /// Totals as they were read or written last. They tell whether a write of another connection matters here.
    totals: Totals,
    tail: Tail,
    /// Messages that this transaction stores: the end of the tail once it is committed.
    stored: Vec<Entry>,
    /// Places of the tail and of `stored`, by key.
    seqs: HashMap<Key, i64>,
    /// Bytes of the tail and of `stored`.
    bytes: usize,
    /// Senders of the tail and of `stored`.
    pub(crate) senders: TailSenders,
    filter: KeyFilter,
    archive: Archive,
    run: Option<SortedRun>,
    /// Rows of the run that are due, but too few to be written.
    n_due: usize,
    /// Last place in the order of arrival that is taken.
    pub(crate) last_seq: i64,
    indexed_seq: i64,
    pub(crate) top_senders: TopSenders,
}

/// Bounds of what one transaction removes and reads beside its messages.
#[derive(Clone, Copy)]
pub(crate) struct RemovalBounds {
    /// Messages or keys that it removes at most.
    pub(crate) n_max: usize,
    /// Senders that it reads at most, while the busiest are not known.
    pub(crate) n_senders: usize,
}

/// Messages and keys that a transaction removed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Removed {
    pub(crate) n_messages: usize,
    pub(crate) n_keys: usize,
    /// True if nothing is left to be removed.
    pub(crate) is_all: bool,
}

impl WriterState {
    /// Reads the state. The key filter of a state that was `known` before still holds: keys only go when they expire, and
    /// then the filter errs more often.
    pub(crate) fn read(
        db: &Connection,
        tail: &Tail,
        shape: Shape,
        known: Option<Self>,
    ) -> rusqlite::Result<Self> {
        let unindexed = tail.reload(db)?;
        let (last_seq, indexed_seq) = (unindexed.to_seq, unindexed.after_seq);
        let archive = Archive::read(db, shape, segment_of(last_seq))?;
        let (filter, first) = match known {
            Some(known) => (known.filter, segment_of(known.indexed_seq)),
            None => (KeyFilter::default(), 0),
        };
        let mut state = Self {
            data_version: data_version(db)?,
            totals: Totals::read(db)?,
            tail: tail.clone(),
            stored: Vec::new(),
            seqs: HashMap::new(),
            bytes: 0,
            senders: TailSenders::default(),
            filter: read_filter(db, filter, &archive, first..=segment_of(last_seq))?,
            archive,
            run: None,
            n_due: 0,
            last_seq,
            indexed_seq,
            top_senders: TopSenders::read(db)?,
        };
        for entry in unindexed.iter() {
            state.seqs.insert(entry.key, entry.seq);
            state.bytes += entry.bytes();
            state.senders.add(db, &entry.sender, 1)?;
        }
        Ok(state)
    }

    /// Returns the state as of a transaction that has just begun: `known`, or read again if another process has written
    /// what this one remembers.
    pub(crate) fn of(
        tx: &Transaction<'_>,
        tail: &Tail,
        shape: Shape,
        known: Option<Self>,
    ) -> rusqlite::Result<Self> {
        let data_version = data_version(tx)?;
        match known {
            Some(known) if known.data_version == data_version => Ok(known),
            // Other programs write too: Litestream has tables of its own.
            Some(known) if known.totals == Totals::read(tx)? => Ok(Self { data_version, ..known }),
            known => Self::read(tx, tail, shape, known),
        }
    }

    /// Returns how many messages operators have deleted.
    pub(crate) fn deleted_count(&self) -> i64 {
        self.totals.deleted_count
    }

    /// Leaves the mark of this writer: other writers then know that they were not the last.
    pub(crate) fn leave_mark(&self, tx: &Transaction<'_>, writer_id: i64) -> rusqlite::Result<()> {
        if self.totals.writer_id != writer_id {
            totals::set_writer(tx, writer_id)?;
        }
        Ok(())
    }

    /// Reads the totals that this transaction has written.
    pub(crate) fn note_totals(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        self.totals = Totals::read(tx)?;
        Ok(())
    }

    /// Adds a message that this transaction stores.
    pub(crate) fn store(&mut self, entry: Entry) {
        self.last_seq = entry.seq;
        self.seqs.insert(entry.key, entry.seq);
        self.bytes += entry.bytes();
        self.stored.push(entry);
    }

    /// Returns the place of the message with this key, if there was one.
    pub(crate) fn find(&self, tx: &Transaction<'_>, key: &Key) -> rusqlite::Result<Option<i64>> {
        if let Some(seq) = self.seqs.get(key) {
            return Ok(Some(*seq));
        }
        let archived = self.archive.candidates(tx, key)?;
        for segment in self.filter.candidates(key).chain(archived) {
            if let Some(seq) = keys::find(tx, segment, key)? {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }

    /// Writes rows of the run under way, or of a new one if there are enough messages: `n_rows` for each message that this
    /// transaction stores.
    pub(crate) fn index_stored(
        &mut self,
        tx: &Transaction<'_>,
        awaited_seq: i64,
        n_rows: usize,
    ) -> rusqlite::Result<()> {
        self.index(tx, awaited_seq, self.stored.len() * n_rows)
    }

    /// Writes up to `n_rows` of the run under way, or of a new one if there are enough messages. Messages up to
    /// `awaited_seq` are indexed however few they are.
    pub(crate) fn index(
        &mut self,
        tx: &Transaction<'_>,
        awaited_seq: i64,
        n_rows: usize,
    ) -> rusqlite::Result<()> {
        let is_heavy = self.bytes > TAIL_BYTES_MAX;
        let is_awaited = is_heavy || self.indexed_seq < awaited_seq;
        // Messages of this transaction are not in the tail yet.
        let committed_seq = self.last_seq - self.stored.len() as i64;
        let end_seq = end_of_run(self.indexed_seq);
        let is_due = end_seq <= committed_seq || is_awaited && self.indexed_seq < committed_seq;
        if self.run.is_none() && is_due {
            let messages = self.tail.between(self.indexed_seq, end_seq.min(committed_seq));
            self.run = Some(SortedRun::new(messages));
        }
        let Some(run) = &mut self.run else {
            return Ok(());
        };
        self.n_due += n_rows;
        if is_heavy {
            run.write(tx, &mut self.filter, usize::MAX)
        } else if self.n_due >= SLICE_ROWS_MIN {
            run.write(tx, &mut self.filter, std::mem::take(&mut self.n_due))
        } else {
            Ok(())
        }
    }

    /// Writes a few blocks of key filters to the database, if memory has too many.
    pub(crate) fn archive_filters(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        self.archive.write(tx, &mut self.filter, segment_of(self.indexed_seq + 1))
    }

    /// Returns the filter of a segment as it is stored, unless the database has it in an area.
    pub(crate) fn filter_column(&self, segment: i64) -> Option<Vec<u8>> {
        (!self.archive.has(segment)).then(|| self.filter.column(segment))
    }

    /// Removes messages and keys that have expired. If there is none, reads some senders while the busiest are not known.
    pub(crate) fn remove(
        &mut self,
        tx: &Transaction<'_>,
        expiry: Option<Expiry>,
        awaited_seq: i64,
        bounds: RemovalBounds,
    ) -> rusqlite::Result<Removed> {
        let RemovalBounds { n_max, n_senders } = bounds;
        let mut removed = Removed { is_all: self.indexed_seq >= awaited_seq, ..Removed::default() };
        if let Some(Expiry { messages_to, keys_to }) = expiry {
            removed.n_messages =
                expiry::expire_messages(tx, &mut self.senders, &mut self.top_senders, messages_to, n_max)?;
            if removed.n_messages > 0 {
                removed.is_all = false;
                return Ok(removed);
            }
            let n_keys = keys_to
                .map(|to| expiry::expire_keys(tx, (&mut self.filter, &mut self.archive), to, n_max))
                .transpose()?;
            if let Some(n_keys) = n_keys.flatten() {
                return Ok(Removed { n_keys, is_all: false, ..removed });
            }
        }
        self.top_senders.look(tx, &self.senders, n_senders)?;
        Ok(removed)
    }

    /// Takes over what the transaction wrote: it is committed.
    pub(crate) fn committed(&mut self) {
        self.tail.push(std::mem::take(&mut self.stored));
        let Some(run) = self.run.take_if(|run| run.is_published()) else {
            return;
        };
        for entry in run.messages().iter() {
            self.seqs.remove(&entry.key);
            self.bytes -= entry.bytes();
            self.senders.forget(&entry.sender);
        }
        self.indexed_seq = run.messages().to_seq;
        self.tail.forget(self.indexed_seq);
    }

    #[cfg(test)]
    pub(crate) fn n_groups(&self) -> usize {
        self.filter.n_groups()
    }

    #[cfg(test)]
    pub(crate) fn archive(&self) -> &Archive {
        &self.archive
    }

    #[cfg(test)]
    pub(crate) fn archive_mut(&mut self) -> &mut Archive {
        &mut self.archive
    }
}

/// Returns a number that stays the same until another connection writes
/// (<https://sqlite.org/pragma.html#pragma_data_version>).
pub(crate) fn data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// Adds the filters of these segments: as they were stored, or else from the keys.
pub(crate) fn read_filter(
    db: &Connection,
    mut filter: KeyFilter,
    archive: &Archive,
    segments: RangeInclusive<i64>,
) -> rusqlite::Result<KeyFilter> {
    for segment in segments.filter(|segment| !archive.has(*segment)) {
        if !segments::read_filter(&mut filter, db, segment)? {
            keys::read_into(&mut filter, db, segment)?;
        }
    }
    Ok(filter)
}
