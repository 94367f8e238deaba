//! The database as its one writer has it: the connection, and the state that it remembers beside it.

use domain::event::StoreEvent;
use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::sqlite::error::store_error;
use crate::sqlite::tables::clock::Reading;
use crate::sqlite::tables::key_filter_blocks::Shape;
use crate::sqlite::tail::Tail;
use crate::sqlite::write::arrival_notes::{self, Keep};
use crate::sqlite::write::backlog::{archive_backlog, index_backlog, renew_filters};
use crate::sqlite::write::expiry::Expiry;
use crate::sqlite::write::insert::insert_all;
use crate::sqlite::write::pending_expiry::PendingExpiry;
use crate::sqlite::write::sorted_run::ENTRIES_PER_MESSAGE;
use crate::sqlite::write::state::{RemovalBounds, WriterState};

/// Rows that a commit writes into the indexes for each message that it stores: one more than the message will need, so that
/// a run is done before the next one has gathered.
const ENTRIES_PER_STORED: usize = ENTRIES_PER_MESSAGE + 1;

/// Rows that are written at a time when there is nothing else to do: some milliseconds, for which a message that comes just
/// then waits.
const IDLE_ENTRIES: usize = 1024;

/// Expired messages that a commit removes at least: its messages wait for as long as they take.
const EXPIRED_PER_COMMIT: usize = 16;

/// Expired messages that a commit removes for each four that it takes. With fewer than four, a load that goes on forever
/// would fill the disk. Removing one message takes about as long as storing two: with more, each commit takes longer and
/// its messages wait.
const EXPIRED_PER_FOUR: usize = 5;

/// Senders that a commit reads while the busiest are not known: a fraction of a millisecond.
const RANKED_PER_COMMIT: usize = 512;

/// Bounds of a transaction when there is nothing else to do.
const IDLE: RemovalBounds = RemovalBounds { n_max: 128, n_senders: 4096 };

/// Page cache while messages are written, in KiB: the upper levels of all indexes.
const CACHE_KIB: u64 = 16 << 10;

/// The writer's operation, for errors.
pub(crate) const APPEND: &str = "append messages";

/// The writer's connection.
pub(crate) struct WriteConnection {
    db: Connection,
    tail: Tail,
    shape: Shape,
    /// Mark that this writer leaves where it has written.
    writer_id: i64,
    /// `None` after a failed transaction, until it is read again.
    state: Option<WriterState>,
    /// Reading of the clock that the next transaction notes.
    keep: Option<Keep>,
    expiry: PendingExpiry,
    /// Events since they were taken last.
    events: Vec<StoreEvent>,
}

impl WriteConnection {
    /// Reads the state, and does the work that an older version left. `tail` has the messages that no index has, from now
    /// on.
    pub(crate) fn open(db: Connection, tail: Tail) -> rusqlite::Result<Self> {
        Self::open_with(db, tail, Shape::default())
    }

    fn open_with(mut db: Connection, tail: Tail, shape: Shape) -> rusqlite::Result<Self> {
        archive_backlog(&mut db, shape)?;
        index_backlog(&mut db, shape)?;
        let state = WriterState::read(&db, &tail, shape, None)?;
        renew_filters(&mut db, &state)?;
        // Pages that were read are not the ones that will be written. SQLite's usual two megabytes are enough for reading,
        // and a cache that was larger once does not give back all of its memory.
        db.release_memory()?;
        db.pragma_update(None, "cache_size", format!("-{CACHE_KIB}"))?;
        let writer_id = db.query_row("SELECT random()", [], |row| row.get(0))?;
        Ok(Self {
            db,
            tail,
            shape,
            writer_id,
            state: Some(state),
            keep: None,
            expiry: PendingExpiry::default(),
            events: Vec::new(),
        })
    }

    pub(crate) fn db(&self) -> &Connection {
        &self.db
    }

    /// Commits all appends in one transaction and flushes it. Returns one answer for each message, in their order.
    ///
    /// # Errors
    /// Nothing was stored, unless the kind is `Unknown`.
    pub(crate) fn commit(&mut self, appends: &[&[NewMessage]]) -> Result<Vec<Vec<Appended>>, StoreError> {
        let n_messages: usize = appends.iter().map(|append| append.len()).sum();
        let bounds = RemovalBounds {
            n_max: EXPIRED_PER_COMMIT.max(n_messages * EXPIRED_PER_FOUR / 4),
            n_senders: RANKED_PER_COMMIT,
        };
        let (keep, expiry, awaited_seq) = (self.keep, self.expiry.expiry(), self.expiry.awaited_seq());
        let (noted, removed, appended) = self.transact(APPEND, |tx, state| {
            let noted = keep.map(|keep| arrival_notes::note(tx, state.last_seq, keep)).transpose()?;
            let removed = state.remove(tx, expiry, awaited_seq, bounds)?;
            let appended = insert_all(tx, state, appends)?;
            state.index_stored(tx, awaited_seq, ENTRIES_PER_STORED)?;
            state.archive_filters(tx)?;
            Ok((noted, removed, appended))
        })?;
        self.expiry.removed(removed, self.last_seq(), &mut self.events);
        if let Some((reading, expiry)) = noted {
            self.noted(reading, expiry);
        }
        Ok(appended)
    }

    /// Returns true if there is work to do when no message waits. After a failure there is none: a message, or a readiness
    /// probe, will show whether the database works again.
    pub(crate) fn has_chores(&self) -> bool {
        self.state.as_ref().is_some_and(|state| self.expiry.is_under_way() || !state.top_senders.is_known())
    }

    /// Does a little of that work.
    pub(crate) fn do_chores(&mut self) -> Result<(), StoreError> {
        let (expiry, awaited_seq) = (self.expiry.expiry(), self.expiry.awaited_seq());
        let removed = self.transact("remove expired messages", |tx, state| {
            let removed = state.remove(tx, expiry, awaited_seq, IDLE)?;
            state.index(tx, awaited_seq, IDLE_ENTRIES)?;
            Ok(removed)
        });
        match removed {
            Ok(removed) => {
                self.expiry.removed(removed, self.last_seq(), &mut self.events);
                Ok(())
            }
            Err(error) => {
                self.events.push(StoreEvent::ChoresFailed(error.clone()));
                Err(error)
            }
        }
    }

    /// Removes what has expired, from now on until all of it is gone.
    pub(crate) fn expire(&mut self, expiry: Expiry) {
        self.expiry.begin(expiry, self.last_seq());
    }

    /// Notes with the next transaction how far the messages have come, and then removes what has expired.
    pub(crate) fn keep(&mut self, keep: Keep) {
        self.keep = Some(keep);
    }

    /// Takes the events since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<StoreEvent> {
        std::mem::take(&mut self.events)
    }

    fn last_seq(&self) -> Option<i64> {
        self.state.as_ref().map(|state| state.last_seq)
    }

    fn noted(&mut self, reading: Reading, expiry: Option<Expiry>) {
        let to = self.keep.take().map(|keep| keep.now);
        match (reading, to) {
            (Reading::Jumped(Some(from)), Some(to)) => self.events.push(StoreEvent::ClockJumped { from, to }),
            (Reading::Settled(_), _) => self.events.push(StoreEvent::ClockSettled),
            _ => {}
        }
        if let Some(expiry) = expiry {
            self.expire(expiry);
        }
    }

    fn transact<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>, &mut WriterState) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let not_committed = |error| store_error(operation, error);
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(not_committed)?;
        let known = self.state.take();
        let known_deleted = known.as_ref().map(WriterState::deleted_count);
        let mut state = WriterState::of(&tx, &self.tail, self.shape, known).map_err(not_committed)?;
        if let Some(n) = known_deleted.and_then(|n| u64::try_from(state.deleted_count() - n).ok())
            && n > 0
        {
            self.events.push(StoreEvent::Deleted { messages: n });
        }
        let run = || {
            state.leave_mark(&tx, self.writer_id)?;
            let done = work(&tx, &mut state)?;
            state.note_totals(&tx)?;
            Ok(done)
        };
        let done = run().map_err(not_committed)?;
        if let Err(error) = tx.commit() {
            // rusqlite has tried to roll back. If the transaction was open until then, it is gone. If SQLite had ended it
            // by itself, the write-ahead log may hold it or not, and only a look after the next start can tell.
            return Err(StoreError::new(
                StoreErrorKind::Unknown,
                operation,
                format!("commit failed: {error}"),
            ));
        }
        state.committed();
        self.state = Some(state);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use domain::contract::Sample;
    use rusqlite::params;
    use tempfile::TempDir;

    use super::*;
    use crate::digest::sha256;
    use crate::sqlite::open;
    use crate::sqlite::tables::key_filter::KeyFilter;
    use crate::sqlite::tables::key_filter_blocks::incomplete;
    use crate::sqlite::tables::keys::key;
    use crate::sqlite::tables::segments::segment_of;

    /// Segments of two groups each, and two groups in memory.
    const AREA_BITS: u32 = 6;
    const LAST_SEGMENT: i64 = 200;
    const KEYS_PER_SEGMENT: i64 = 5;

    fn small() -> Shape {
        Shape::of(2, AREA_BITS)
    }

    fn id(seq: i64) -> String {
        format!("message {seq}")
    }

    fn seqs() -> impl Iterator<Item = i64> {
        (0..LAST_SEGMENT).flat_map(|segment| (1..=KEYS_PER_SEGMENT).map(move |n| (segment << 16) + n))
    }

    /// A store that has received thirteen million messages, of which all have expired, and most kept no key.
    fn database() -> (TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let mut db = open::open_and_migrate(&folder.path().join("app.db")).unwrap();
        let tx = db.transaction().unwrap();
        for seq in seqs() {
            tx.execute(
                "INSERT INTO message_keys (segment, key, seq) VALUES (?1, ?2, ?3)",
                params![segment_of(seq), key(1, &id(seq)), seq],
            )
            .unwrap();
        }
        let last_seq = (LAST_SEGMENT << 16) - 1;
        tx.execute("UPDATE totals SET last_seq = ?1, indexed_seq = ?1, purged_seq = ?1", [last_seq]).unwrap();
        tx.commit().unwrap();
        (folder, db)
    }

    fn append(writer: &mut WriteConnection, id: &str) -> Appended {
        let mut message = Sample::id(id).message();
        message.verified.body_digest = sha256(&message.body);
        writer.commit(&[&[message]]).unwrap()[0][0]
    }

    fn assert_all_are_known(writer: &mut WriteConnection, seqs: impl Iterator<Item = i64>) {
        for seq in seqs {
            let existing = Appended::Existing { seq: domain::store::Seq(seq), digest: None };
            assert_eq!(append(writer, &id(seq)), existing);
        }
    }

    fn n_groups(writer: &WriteConnection) -> usize {
        writer.state.as_ref().unwrap().n_groups()
    }

    /// Goal: past the bound of memory each message is still stored exactly once, while filters go to the database, after a
    /// crash in the middle of that, and after a start. Method: bounds that are small.
    #[test]
    fn past_the_bound_of_the_filter_in_memory_every_key_is_known() {
        let (folder, db) = database();
        let mut writer = WriteConnection::open_with(db, Tail::default(), Shape::of(100, AREA_BITS)).unwrap();
        assert_eq!(n_groups(&writer), 7, "all are in memory");
        writer.shape = small();
        writer.state = Some(WriterState::read(&writer.db, &writer.tail, small(), None).unwrap());
        let mut n_commits = 0;
        while n_groups(&writer) > 5 {
            assert_all_are_known(&mut writer, seqs().skip(n_commits % 31).step_by(331));
            assert!(matches!(append(&mut writer, &format!("new {n_commits}")), Appended::Stored(_)));
            n_commits += 1;
            assert!(n_commits < 1_000);
        }
        // It writes the next area when it ends.
        append(&mut writer, "one more");
        drop(writer);

        let db = open::open_and_migrate(&folder.path().join("app.db")).unwrap();
        let mut writer = WriteConnection::open_with(db, Tail::default(), small()).unwrap();
        assert!(n_groups(&writer) <= 3, "{}", n_groups(&writer));
        assert_all_are_known(&mut writer, seqs());
        for n in 0..n_commits {
            assert!(matches!(append(&mut writer, &format!("new {n}")), Appended::Existing { .. }));
        }
        let found = seqs().map(|seq| {
            let state = writer.state.as_ref().unwrap();
            state.archive().candidates(&writer.db, &key(1, &format!("unknown {seq}"))).unwrap().len()
        });
        assert!(found.sum::<usize>() < 5, "they tell apart what they have and what they have not");
    }

    /// A stored filter that knows more than its area would let a second message in; blocks go with their segments.
    #[test]
    fn a_check_finds_an_area_that_leaves_out_a_key_and_expired_areas_are_removed() {
        let (_folder, db) = database();
        let mut writer = WriteConnection::open_with(db, Tail::default(), small()).unwrap();
        let mut filter = KeyFilter::default();
        filter.insert(70, &key(1, &id((70 << 16) + 1)));
        let insert = "INSERT INTO segments (segment, last_received_at_us, key_filter) VALUES (70, 0, ?1)";
        writer.db.execute(insert, [filter.column(70)]).unwrap();
        assert_eq!(incomplete(&writer.db, small()).unwrap(), [0; 0]);
        filter.insert(70, &key(1, "another"));
        writer.db.execute("UPDATE segments SET key_filter = ?1", [filter.column(70)]).unwrap();
        assert_eq!(incomplete(&writer.db, small()).unwrap(), [70]);

        let archive = writer.state.as_mut().unwrap().archive_mut();
        let tx = writer.db.transaction().unwrap();
        while archive.forget(&tx, 70, 100).unwrap() {}
        let left: i64 =
            tx.query_row("SELECT min(block >> 16) FROM key_filter_blocks", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 1, "the first area is gone, the second one has segments");
        assert!(!archive.has(3) && archive.has(70));
    }
}
