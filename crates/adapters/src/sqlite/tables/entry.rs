//! Index entries of messages, and stretches of them in order of arrival.

use std::sync::Arc;

use crate::sqlite::order::ListKey;
use crate::sqlite::tables::key_filter::Key;

/// The parts of a message that the indexes have.
pub(crate) struct Entry {
    pub(crate) seq: i64,
    pub(crate) key: Key,
    pub(crate) received_at_us: i64,
    pub(crate) sender: Box<str>,
    pub(crate) ts_us: i64,
    pub(crate) ts_finer: Option<Box<str>>,
    pub(crate) message_id: Box<str>,
}

impl Entry {
    /// Returns its key in the order of every listing.
    pub(crate) fn list_key(&self) -> ListKey<'_> {
        (self.ts_us, self.ts_finer.as_deref(), &self.message_id, self.seq)
    }

    /// Returns about how many bytes of memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let ts_finer = self.ts_finer.as_ref().map_or(0, |digits| digits.len());
        size_of::<Self>() + self.sender.len() + ts_finer + self.message_id.len()
    }
}

/// Entries of one commit, in order of arrival; never empty.
pub(crate) type Batch = Arc<[Entry]>;

/// Entries that follow each other in order of arrival.
pub(crate) struct Stretch {
    pub(crate) batches: Vec<Batch>,
    /// The place before the first entry.
    pub(crate) after_seq: i64,
    /// The place of the last entry.
    pub(crate) to_seq: i64,
}

/// Position of an entry in a stretch.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    batch: usize,
    entry: usize,
}

impl Stretch {
    /// Returns the entries in order of arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.positions().map(|position| self.at(position))
    }

    /// Returns the positions of the entries in order of arrival.
    pub(crate) fn positions(&self) -> impl Iterator<Item = Position> {
        let all = (0..self.batches.len())
            .flat_map(|batch| (0..self.batches[batch].len()).map(move |entry| Position { batch, entry }));
        all.skip_while(|p| self.at(*p).seq <= self.after_seq).take_while(|p| self.at(*p).seq <= self.to_seq)
    }

    /// Returns the entry at a position.
    pub(crate) fn at(&self, position: Position) -> &Entry {
        &self.batches[position.batch][position.entry]
    }
}
