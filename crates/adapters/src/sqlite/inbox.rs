//! The database as its one writer has it: the connection, and what the writer remembers beside it.

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::Digest;
use super::batch;
use super::error::store_error;
use super::expiry::{self, Expiry};
use super::key_filter::{Key, KeyFilter, segment_of};
use super::run::{ENTRIES_PER_MESSAGE, RUN_MESSAGES, Run};
use super::tail::{Entry, Tail};

/// Entries that a commit writes into the indexes for each message that it stores: a third more than the
/// message will need, so that a run is done before the next one has gathered.
const ENTRIES_PER_STORED: usize = ENTRIES_PER_MESSAGE + 1;

/// Messages in the tail from which on a run is begun when there is nothing else to do.
const IDLE_RUN_MESSAGES: usize = 512;

/// Entries that are written at a time when there is nothing else to do: some milliseconds, which is what
/// a message waits that comes just then.
const IDLE_ENTRIES: usize = 1024;

pub(super) const APPEND: &str = "append messages";

/// Expired messages that a commit removes: as long as they take, its messages wait.
const EXPIRED_PER_COMMIT: usize = 64;

/// The same when there is nothing else to do.
const IDLE_EXPIRED: usize = 512;

pub(super) struct Inbox {
    db: Connection,
    digest: Digest,
    /// `None` after a failed transaction, until it is read anew.
    memory: Option<Memory>,
}

/// What the writer knows of the database without looking.
pub(super) struct Memory {
    digest: Digest,
    /// Of what was read: it changes when another connection writes.
    data_version: i64,
    pub(super) tail: Tail,
    filter: KeyFilter,
    run: Option<Run>,
    /// The last place in the order of arrival that is taken.
    pub(super) last_seq: i64,
    indexed_seq: i64,
    /// Whether the table of the busiest senders is kept up.
    pub(super) is_ranked: bool,
    /// What is being removed, until nothing of it is left, and what was the last place when that began.
    expiry: Option<(Expiry, i64)>,
}

impl Inbox {
    /// Reads what the writer has to know, and indexes what an older version left.
    pub(super) fn open(mut db: Connection, digest: Digest) -> rusqlite::Result<Self> {
        index_backlog(&mut db, digest)?;
        let memory = Memory::read(&db, digest)?;
        Ok(Self { db, digest, memory: Some(memory) })
    }

    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    /// Appends all deliveries in one transaction and flushes it. One answer a message, in their order.
    ///
    /// # Errors
    /// Nothing was stored, unless the kind is `Unknown`.
    pub(super) fn commit(&mut self, deliveries: &[&[NewMessage]]) -> Result<Vec<Vec<Appended>>, StoreError> {
        self.transact(APPEND, |tx, memory| {
            let appended = batch::insert_all(tx, memory, deliveries)?;
            let n_stored = appended.iter().flatten().filter(|a| matches!(a, Appended::Stored(_))).count();
            memory.index(tx, n_stored * ENTRIES_PER_STORED, RUN_MESSAGES)?;
            memory.remove_expired(tx, EXPIRED_PER_COMMIT)?;
            Ok(appended)
        })
    }

    /// Whether there is something to do when no message waits. After a failure there is not: a message, or a
    /// question of readiness, will show whether the database is well again.
    pub(super) fn has_chores(&self) -> bool {
        self.memory.as_ref().is_some_and(Memory::has_chores)
    }

    /// Does a little of it.
    pub(super) fn do_chores(&mut self) -> Result<(), StoreError> {
        self.transact("index messages", |tx, memory| {
            memory.index(tx, IDLE_ENTRIES, IDLE_RUN_MESSAGES)?;
            memory.remove_expired(tx, IDLE_EXPIRED)
        })
    }

    /// From now on this is removed, until all of it is or a transaction fails.
    pub(super) fn expire(&mut self, expiry: Expiry) {
        if let Some(memory) = &mut self.memory {
            memory.expiry = Some((expiry, memory.last_seq));
        }
    }

    fn transact<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>, &mut Memory) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let not_committed = |error| store_error(operation, error);
        let memory = self.memory.take();
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(not_committed)?;
        // What another process has written meanwhile has to be known, too.
        let data_version = data_version(&tx).map_err(not_committed)?;
        let mut memory = match memory.filter(|memory| memory.data_version == data_version) {
            Some(memory) => memory,
            None => Memory::read(&tx, self.digest).map_err(not_committed)?,
        };
        let done = work(&tx, &mut memory).map_err(not_committed)?;
        if let Err(error) = tx.commit() {
            // rusqlite has tried to roll back. If the transaction was open until then, it is gone; if
            // SQLite had ended it by itself, the write-ahead log may hold it or not, and only a look after
            // the next opening can tell.
            return Err(StoreError::new(
                StoreErrorKind::Unknown,
                operation,
                format!("commit failed: {error}"),
            ));
        }
        memory.committed();
        self.memory = Some(memory);
        Ok(done)
    }
}

impl Memory {
    fn read(db: &Connection, digest: Digest) -> rusqlite::Result<Self> {
        let data_version = data_version(db)?;
        let (last_seq, indexed_seq, is_ranked) =
            db.query_row("SELECT last_seq, indexed_seq, is_ranked FROM totals", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let filter = read_filter(db, last_seq)?;
        let mut tail = Tail::default();
        read_tail(db, digest, indexed_seq, usize::MAX)?.into_iter().for_each(|entry| tail.push(entry));
        let (run, expiry) = (None, None);
        Ok(Self { digest, data_version, tail, filter, run, last_seq, indexed_seq, is_ranked, expiry })
    }

    fn has_chores(&self) -> bool {
        let Self { run, tail, is_ranked, expiry, .. } = self;
        run.is_some() || tail.n_waiting() >= IDLE_RUN_MESSAGES || expiry.is_some() || !is_ranked
    }

    /// A message's key in the ledger.
    pub(super) fn key(&self, source_id: i64, message_id: &str) -> Key {
        key(self.digest, source_id, message_id)
    }

    /// The place of the message with this key, if there was one.
    pub(super) fn find(&self, tx: &Transaction<'_>, key: &Key) -> rusqlite::Result<Option<i64>> {
        if let Some(seq) = self.tail.seq(key) {
            return Ok(Some(seq));
        }
        for segment in self.filter.candidates(key) {
            let mut look =
                tx.prepare_cached("SELECT seq FROM message_keys WHERE segment = ?1 AND key = ?2")?;
            let mut rows = look.query(params![segment, key])?;
            if let Some(row) = rows.next()? {
                return row.get(0).map(Some);
            }
        }
        Ok(None)
    }

    /// Writes so many entries of the run under way, or of a new one if enough messages wait.
    fn index(&mut self, tx: &Transaction<'_>, n_entries: usize, run_messages: usize) -> rusqlite::Result<()> {
        // What is to expire has to be indexed first, however little it is.
        let is_awaited = self.expiry.is_some_and(|(_, last_seq)| self.indexed_seq < last_seq);
        let run_messages = if is_awaited { 1 } else { run_messages };
        if self.run.is_none() && self.tail.n_waiting() >= run_messages {
            self.run = Some(Run::new(self.tail.take(RUN_MESSAGES), self.indexed_seq));
        }
        match &mut self.run {
            Some(run) => run.write(tx, &mut self.filter, n_entries),
            None => Ok(()),
        }
    }

    /// Removes so many of the messages and keys that have expired; after the last one, ranks the senders anew.
    fn remove_expired(&mut self, tx: &Transaction<'_>, n_max: usize) -> rusqlite::Result<()> {
        if let Some((expiry, last_seq)) = self.expiry {
            if expiry::expire(tx, &mut self.filter, expiry, n_max)? {
                self.is_ranked = false;
                return Ok(());
            }
            if self.indexed_seq < last_seq {
                return Ok(());
            }
            self.expiry = None;
        }
        if !self.is_ranked {
            expiry::rank(tx)?;
            self.is_ranked = true;
        }
        Ok(())
    }

    /// What was written is there to stay.
    fn committed(&mut self) {
        if let Some(run) = self.run.take_if(|run| run.is_published()) {
            self.indexed_seq = run.to_seq();
            self.tail.forget(run.keys());
        }
    }
}

/// Whether it stays the same tells whether another connection has written since
/// (<https://sqlite.org/pragma.html#pragma_data_version>).
fn data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// A message's key in the ledger.
pub(super) fn key(digest: Digest, source_id: i64, message_id: &str) -> Key {
    let digest = digest(&[&source_id.to_be_bytes(), message_id.as_bytes()].concat());
    std::array::from_fn(|i| digest.0[i])
}

/// Indexes what an older version, which had other indexes, left to be indexed.
fn index_backlog(db: &mut Connection, digest: Digest) -> rusqlite::Result<()> {
    let mut filter = None;
    loop {
        let (last_seq, indexed_seq) =
            db.query_row("SELECT last_seq, indexed_seq FROM totals", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let entries = read_tail(db, digest, indexed_seq, RUN_MESSAGES)?;
        if entries.len() < RUN_MESSAGES {
            return Ok(());
        }
        let mut known = match filter.take() {
            Some(filter) => filter,
            None => read_filter(db, last_seq)?,
        };
        let mut run = Run::new(entries, indexed_seq);
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        run.write(&tx, &mut known, usize::MAX)?;
        tx.commit()?;
        filter = Some(known);
    }
}

/// The next messages after `indexed_seq`.
fn read_tail(
    db: &Connection,
    digest: Digest,
    indexed_seq: i64,
    n_max: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let entry = |row: &rusqlite::Row<'_>| {
        let message_id: Box<str> = row.get(2)?;
        Ok(Entry {
            seq: row.get(0)?,
            key: key(digest, row.get(1)?, &message_id),
            received_at_us: row.get(6)?,
            message_id,
            sender: row.get(3)?,
            ts_us: row.get(4)?,
            ts_finer: row.get(5)?,
        })
    };
    db.prepare_cached(
        "SELECT seq, source_id, message_id, sender, ts_us, ts_finer, received_at_us FROM messages \
         WHERE seq > ?1 AND seq <= (SELECT last_seq FROM totals) ORDER BY seq LIMIT ?2",
    )?
    .query_map(params![indexed_seq, i64::try_from(n_max).unwrap_or(i64::MAX)], entry)?
    .collect()
}

/// The filters as they were stored, and those that were not, from the keys.
fn read_filter(db: &Connection, last_seq: i64) -> rusqlite::Result<KeyFilter> {
    let mut filter = KeyFilter::default();
    let mut stored = db.prepare("SELECT key_filter FROM segments WHERE segment = ?1")?;
    let mut keys = db.prepare("SELECT key FROM message_keys WHERE segment = ?1")?;
    for segment in 0..=segment_of(last_seq) {
        let mut rows = stored.query([segment])?;
        if let Some(row) = rows.next()?
            && filter.set_column(segment, row.get_ref(0)?.as_blob()?)
        {
            continue;
        }
        let mut rows = keys.query([segment])?;
        while let Some(row) = rows.next()? {
            filter.insert(segment, &row.get(0)?);
        }
    }
    Ok(filter)
}
