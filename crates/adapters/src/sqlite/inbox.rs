//! The database as its one writer has it: the connection, and what the writer remembers beside it.

use std::collections::HashMap;

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::batch;
use super::error::store_error;
use super::expiry::{self, Expiry};
use super::key_filter::{self, Key, KeyFilter, segment_of};
use super::ranking::Ranking;
use super::run::{ENTRIES_PER_MESSAGE, Run, end_of_run};
use super::sender_counts::{self, TailSenders};
use super::tail::{Entry, Tail, bounds};

/// Entries that a commit writes into the indexes for each message that it stores: some more than the
/// message will need, so that a run is done before the next one has gathered.
const ENTRIES_PER_STORED: usize = ENTRIES_PER_MESSAGE + 1;

/// Entries that are written at once: so many that most pages of an index are written once, and not for each
/// small commit again. They take a millisecond or two.
const SLICE_ENTRIES_MIN: usize = 512;

/// Entries that are written at a time when there is nothing else to do: some milliseconds, which is what
/// a message waits that comes just then.
const IDLE_ENTRIES: usize = 1024;

/// Memory of the tail from which on it is indexed at once. Only what an older version stored, with senders of thousands
/// of digits, comes near it.
const TAIL_BYTES_MAX: usize = 64 << 20;

pub(super) const APPEND: &str = "append messages";

/// Expired messages that a commit removes: as long as they take, its messages wait.
const EXPIRED_PER_COMMIT: usize = 16;

/// The same when there is nothing else to do.
const IDLE_EXPIRED: usize = 128;

/// Page cache while messages are written, in KiB: the upper levels of all indexes.
const CACHE_KIB: u64 = 16 << 10;

pub(super) struct Inbox {
    db: Connection,
    tail: Tail,
    /// The mark that it leaves where it has written.
    writer_id: i64,
    /// `None` after a failed transaction, until it is read anew.
    memory: Option<Memory>,
}

/// What the writer knows of the database without looking.
pub(super) struct Memory {
    /// Of what was read: it changes when another connection writes.
    data_version: i64,
    /// As they were read, or written last: they tell whether what another connection wrote matters here.
    totals: Totals,
    pub(super) tail: Tail,
    /// What this transaction stores: the end of the tail once it is committed.
    stored: Vec<Entry>,
    /// The places of all these by their keys.
    seqs: HashMap<Key, i64>,
    /// What all these take up.
    bytes: usize,
    /// The senders of all these.
    pub(super) senders: TailSenders,
    filter: KeyFilter,
    run: Option<Run>,
    /// Entries of the run that are due, but too few to be written.
    n_due: usize,
    /// The last place in the order of arrival that is taken.
    pub(super) last_seq: i64,
    indexed_seq: i64,
    /// `None` while messages expire.
    pub(super) ranking: Option<Ranking>,
    /// What is being removed, until nothing of it is left, and what was the last place when that began.
    expiry: Option<(Expiry, i64)>,
}

impl Inbox {
    /// Reads what the writer has to know, and indexes what an older version left. What is stored and in no index
    /// is in `tail` from now on.
    pub(super) fn open(mut db: Connection, tail: Tail) -> rusqlite::Result<Self> {
        index_backlog(&mut db, &tail)?;
        let memory = Memory::read(&db, &tail)?;
        renew_filters(&mut db, &memory.filter)?;
        // The pages of what was read are not those that will be written: SQLite's usual two megabytes are enough for these,
        // and memory that was more once is not all given back.
        db.release_memory()?;
        db.pragma_update(None, "cache_size", format!("-{CACHE_KIB}"))?;
        let writer_id = db.query_row("SELECT random()", [], |row| row.get(0))?;
        Ok(Self { db, tail, writer_id, memory: Some(memory) })
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
            memory.remove_expired(tx, EXPIRED_PER_COMMIT)?;
            let appended = batch::insert_all(tx, memory, deliveries)?;
            memory.index(tx, memory.stored.len() * ENTRIES_PER_STORED)?;
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
        self.transact("remove expired messages", |tx, memory| {
            memory.remove_expired(tx, IDLE_EXPIRED)?;
            memory.index(tx, IDLE_ENTRIES)
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
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(not_committed)?;
        // What another process has written meanwhile has to be known, too.
        let data_version = data_version(&tx).map_err(not_committed)?;
        let mut memory = match self.memory.take() {
            Some(memory) if memory.data_version == data_version => memory,
            // Others write, too: Litestream has tables of its own.
            Some(memory) if memory.totals == Totals::read(&tx).map_err(not_committed)? => {
                Memory { data_version, ..memory }
            }
            _ => Memory::read(&tx, &self.tail).map_err(not_committed)?,
        };
        let done = memory.leave_mark(&tx, self.writer_id).and_then(|()| work(&tx, &mut memory));
        let done = done.and_then(|done| {
            memory.totals = Totals::read(&tx)?;
            Ok(done)
        });
        let done = done.map_err(not_committed)?;
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
    fn read(db: &Connection, tail: &Tail) -> rusqlite::Result<Self> {
        let unindexed = tail.reload(db)?;
        let (last_seq, indexed_seq) = (unindexed.to_seq, unindexed.after_seq);
        let is_ranked: bool = db.query_row("SELECT is_ranked FROM totals", [], |row| row.get(0))?;
        let mut memory = Self {
            data_version: data_version(db)?,
            totals: Totals::read(db)?,
            tail: tail.clone(),
            stored: Vec::new(),
            seqs: HashMap::new(),
            bytes: 0,
            senders: TailSenders::default(),
            filter: read_filter(db, last_seq)?,
            run: None,
            n_due: 0,
            last_seq,
            indexed_seq,
            ranking: is_ranked.then(|| Ranking::read(db)).transpose()?,
            expiry: None,
        };
        for entry in unindexed.iter() {
            memory.seqs.insert(entry.key, entry.seq);
            memory.bytes += entry.bytes();
            memory.senders.add(db, &entry.sender, 1)?;
        }
        Ok(memory)
    }

    /// From now on whoever remembers what it wrote itself knows that it was not the last.
    fn leave_mark(&self, tx: &Transaction<'_>, writer_id: i64) -> rusqlite::Result<()> {
        if self.totals.writer_id != writer_id {
            tx.execute("UPDATE totals SET writer_id = ?1", [writer_id])?;
        }
        Ok(())
    }

    fn has_chores(&self) -> bool {
        self.expiry.is_some() || self.ranking.is_none()
    }

    /// A message is stored, if this transaction is committed.
    pub(super) fn store(&mut self, entry: Entry) {
        self.last_seq = entry.seq;
        self.seqs.insert(entry.key, entry.seq);
        self.bytes += entry.bytes();
        self.stored.push(entry);
    }

    /// The place of the message with this key, if there was one.
    pub(super) fn find(&self, tx: &Transaction<'_>, key: &Key) -> rusqlite::Result<Option<i64>> {
        if let Some(seq) = self.seqs.get(key) {
            return Ok(Some(*seq));
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

    /// Writes so many entries of the run under way, or of a new one if there are messages enough.
    fn index(&mut self, tx: &Transaction<'_>, n_entries: usize) -> rusqlite::Result<()> {
        let is_heavy = self.bytes > TAIL_BYTES_MAX;
        // What is to expire has to be indexed first, however little it is.
        let is_awaited = is_heavy || self.expiry.is_some_and(|(_, last_seq)| self.indexed_seq < last_seq);
        // What this transaction stores is not in the tail yet.
        let committed_seq = self.last_seq - self.stored.len() as i64;
        let end_seq = end_of_run(self.indexed_seq);
        let is_due = end_seq <= committed_seq || is_awaited && self.indexed_seq < committed_seq;
        if self.run.is_none() && is_due {
            self.run = Some(Run::new(self.tail.between(self.indexed_seq, end_seq.min(committed_seq))));
        }
        let Some(run) = &mut self.run else {
            return Ok(());
        };
        self.n_due += n_entries;
        if is_heavy {
            run.write(tx, &mut self.filter, usize::MAX)
        } else if self.n_due >= SLICE_ENTRIES_MIN {
            run.write(tx, &mut self.filter, std::mem::take(&mut self.n_due))
        } else {
            Ok(())
        }
    }

    /// Removes so many of the messages and keys that have expired; after the last one, ranks the senders anew.
    fn remove_expired(&mut self, tx: &Transaction<'_>, n_max: usize) -> rusqlite::Result<()> {
        if let Some((expiry, last_seq)) = self.expiry {
            if expiry::expire_messages(tx, &mut self.senders, expiry.messages_before, n_max)? {
                self.ranking = None;
                return Ok(());
            }
            if expiry::expire_keys(tx, &mut self.filter, expiry, n_max)? {
                return Ok(());
            }
            if self.indexed_seq < last_seq {
                return Ok(());
            }
            self.expiry = None;
        }
        if self.ranking.is_none() {
            let unindexed = self.tail.between(self.indexed_seq, self.last_seq);
            let mut ranking = Ranking::default();
            ranking.set(tx, sender_counts::busiest(tx, &unindexed)?)?;
            tx.execute("UPDATE totals SET is_ranked = 1", [])?;
            self.ranking = Some(ranking);
        }
        Ok(())
    }

    /// What was written is there to stay.
    fn committed(&mut self) {
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
}

/// The row of totals: all else that the writer remembers changes together with one of these.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Totals {
    /// The mark of who wrote last.
    writer_id: i64,
    last_seq: i64,
    indexed_seq: i64,
    purged_seq: i64,
    message_count: i64,
    sender_count: i64,
    is_ranked: bool,
}

impl Totals {
    fn read(db: &Connection) -> rusqlite::Result<Self> {
        db.prepare_cached(
            "SELECT writer_id, last_seq, indexed_seq, purged_seq, message_count, sender_count, is_ranked FROM totals",
        )?
        .query_row([], |row| {
            Ok(Self {
                writer_id: row.get(0)?,
                last_seq: row.get(1)?,
                indexed_seq: row.get(2)?,
                purged_seq: row.get(3)?,
                message_count: row.get(4)?,
                sender_count: row.get(5)?,
                is_ranked: row.get(6)?,
            })
        })
    }
}

/// Whether it stays the same tells whether another connection has written since
/// (<https://sqlite.org/pragma.html#pragma_data_version>).
fn data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// Indexes what an older version, which had other indexes, left to be indexed. This version leaves two runs at most, and
/// goes on with these.
fn index_backlog(db: &mut Connection, tail: &Tail) -> rusqlite::Result<()> {
    let mut filter = None;
    loop {
        let (indexed_seq, last_seq) = bounds(db)?;
        let end_seq = end_of_run(indexed_seq);
        if last_seq <= end_of_run(end_seq) {
            return Ok(());
        }
        let mut known = match filter.take() {
            Some(filter) => filter,
            None => read_filter(db, last_seq)?,
        };
        let mut run = Run::new(tail.stored(db, indexed_seq, end_seq)?);
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        run.write(&tx, &mut known, usize::MAX)?;
        tx.commit()?;
        filter = Some(known);
    }
}

/// Stores the filters that an older version had in another form.
fn renew_filters(db: &mut Connection, filter: &KeyFilter) -> rusqlite::Result<()> {
    // Mostly there are none, and nothing is written.
    let tx = db.transaction()?;
    let others: Vec<i64> = tx
        .prepare("SELECT segment FROM segments WHERE length(key_filter) <> ?1")?
        .query_map([key_filter::COLUMN_BYTES], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for segment in others {
        tx.execute(
            "UPDATE segments SET key_filter = ?2 WHERE segment = ?1",
            params![segment, filter.column(segment)],
        )?;
    }
    tx.commit()
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
