//! The database as its one writer has it: the connection, and what the writer remembers beside it.

use std::collections::HashMap;
use std::time::Instant;

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::sqlite::error::store_error;
use crate::sqlite::tables::arrivals;
use crate::sqlite::tables::arrivals::{Keep, Reading};
use crate::sqlite::tables::key_filter;
use crate::sqlite::tables::key_filter::{Key, KeyFilter, segment_of};
use crate::sqlite::tables::key_filter_blocks::{Archive, Shape};
use crate::sqlite::tables::senders::TailSenders;
use crate::sqlite::tables::top_senders::Ranking;
use crate::sqlite::tail::{Entry, Tail, bounds};
use crate::sqlite::wal::checkpoint as checkpoints;
use crate::sqlite::write::expiry;
use crate::sqlite::write::expiry::Expiry;
use crate::sqlite::write::insert as batch;
use crate::sqlite::write::sorted_run::{ENTRIES_PER_MESSAGE, Run, end_of_run};
use domain::event::StoreEvent;

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

pub(crate) const APPEND: &str = "append messages";

/// Expired messages that a commit removes at least: as long as they take, its messages wait.
const EXPIRED_PER_COMMIT: usize = 16;

/// Expired messages that a commit removes for each four that it takes. With fewer than four a load that goes on for ever
/// would fill the disk. It takes about as long to remove a message as to store two: with more of them each commit takes
/// longer, and its messages wait.
const EXPIRED_PER_FOUR: usize = 5;

/// The same when there is nothing else to do.
const IDLE_EXPIRED: usize = 128;

/// Senders that a commit looks at while the busiest are not known: a fraction of a millisecond.
const RANKED_PER_COMMIT: usize = 512;

/// The same when there is nothing else to do.
const IDLE_RANKED: usize = 4096;

/// Page cache while messages are written, in KiB: the upper levels of all indexes.
const CACHE_KIB: u64 = 16 << 10;

pub(crate) struct Inbox {
    db: Connection,
    tail: Tail,
    shape: Shape,
    /// The mark that it leaves where it has written.
    writer_id: i64,
    /// `None` after a failed transaction, until it is read anew.
    memory: Option<Memory>,
    /// A reading of the clock that is to be noted, with the next transaction that succeeds.
    keep: Option<Keep>,
    /// What is being removed, until nothing of it is left.
    purge: Option<Purge>,
    /// What has happened since somebody took these.
    events: Vec<StoreEvent>,
}

/// The removal of all that had expired when it was asked for.
struct Purge {
    expiry: Expiry,
    /// What came before has to be indexed first; the last place that was taken when it began.
    awaited_seq: Option<i64>,
    started: Instant,
    n_messages: usize,
    n_keys: usize,
}

/// What a transaction removed.
#[derive(Clone, Copy, Default)]
struct Removed {
    n_messages: usize,
    n_keys: usize,
    /// Nothing is left to be removed.
    is_all: bool,
}

/// What the writer knows of the database without looking.
pub(crate) struct Memory {
    /// Of what was read: it changes when another connection writes.
    data_version: i64,
    /// As they were read, or written last: they tell whether what another connection wrote matters here.
    totals: Totals,
    pub(crate) tail: Tail,
    /// What this transaction stores: the end of the tail once it is committed.
    stored: Vec<Entry>,
    /// The places of all these by their keys.
    seqs: HashMap<Key, i64>,
    /// What all these take up.
    bytes: usize,
    /// The senders of all these.
    pub(crate) senders: TailSenders,
    filter: KeyFilter,
    archive: Archive,
    run: Option<Run>,
    /// Entries of the run that are due, but too few to be written.
    n_due: usize,
    /// The last place in the order of arrival that is taken.
    pub(crate) last_seq: i64,
    indexed_seq: i64,
    pub(crate) ranking: Ranking,
}

impl Inbox {
    /// Reads what the writer has to know, and indexes what an older version left. What is stored and in no index
    /// is in `tail` from now on.
    pub(crate) fn open(db: Connection, tail: Tail) -> rusqlite::Result<Self> {
        Self::open_with(db, tail, Shape::default())
    }

    fn open_with(mut db: Connection, tail: Tail, shape: Shape) -> rusqlite::Result<Self> {
        archive_backlog(&mut db, shape)?;
        index_backlog(&mut db, &tail, shape)?;
        let memory = Memory::read(&db, &tail, shape, None)?;
        renew_filters(&mut db, &memory)?;
        // The pages of what was read are not those that will be written: SQLite's usual two megabytes are enough for these,
        // and memory that was more once is not all given back.
        db.release_memory()?;
        db.pragma_update(None, "cache_size", format!("-{CACHE_KIB}"))?;
        let writer_id = db.query_row("SELECT random()", [], |row| row.get(0))?;
        Ok(Self {
            db,
            tail,
            shape,
            writer_id,
            memory: Some(memory),
            keep: None,
            purge: None,
            events: Vec::new(),
        })
    }

    pub(crate) fn db(&self) -> &Connection {
        &self.db
    }

    /// Appends all deliveries in one transaction and flushes it. One answer a message, in their order.
    ///
    /// # Errors
    /// Nothing was stored, unless the kind is `Unknown`.
    pub(crate) fn commit(&mut self, deliveries: &[&[NewMessage]]) -> Result<Vec<Vec<Appended>>, StoreError> {
        let n_messages: usize = deliveries.iter().map(|delivery| delivery.len()).sum();
        let n_expired = EXPIRED_PER_COMMIT.max(n_messages * EXPIRED_PER_FOUR / 4);
        let (keep, expiry, awaited_seq) = (self.keep, self.expiry(), self.awaited_seq());
        let (noted, removed, appended) = self.transact(APPEND, |tx, memory| {
            let noted = keep.map(|keep| arrivals::note(tx, memory.last_seq, keep)).transpose()?;
            let removed = memory.remove(tx, expiry, awaited_seq, n_expired, RANKED_PER_COMMIT)?;
            let appended = batch::insert_all(tx, memory, deliveries)?;
            memory.index(tx, awaited_seq, memory.stored.len() * ENTRIES_PER_STORED)?;
            memory.archive.write(tx, &mut memory.filter, segment_of(memory.indexed_seq + 1))?;
            Ok((noted, removed, appended))
        })?;
        self.removed(removed);
        if let Some((reading, expiry)) = noted {
            self.noted(reading, expiry);
        }
        Ok(appended)
    }

    /// Whether there is something to do when no message waits. After a failure there is not: a message, or a
    /// question of readiness, will show whether the database is well again.
    pub(crate) fn has_chores(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| self.purge.is_some() || !memory.ranking.is_known())
    }

    /// Does a little of it.
    pub(crate) fn do_chores(&mut self) -> Result<(), StoreError> {
        let (expiry, awaited_seq) = (self.expiry(), self.awaited_seq());
        let removed = self.transact("remove expired messages", |tx, memory| {
            let removed = memory.remove(tx, expiry, awaited_seq, IDLE_EXPIRED, IDLE_RANKED)?;
            memory.index(tx, awaited_seq, IDLE_ENTRIES)?;
            Ok(removed)
        });
        if let Err(error) = &removed {
            self.events.push(StoreEvent::ChoresFailed(error.clone()));
        }
        removed.map(|removed| self.removed(removed))
    }

    /// From now on this is removed, until all of it is.
    pub(crate) fn expire(&mut self, expiry: Expiry) {
        // Of one that is under way, this goes as far and farther.
        let (n_messages, n_keys) =
            self.purge.as_ref().map_or((0, 0), |purge| (purge.n_messages, purge.n_keys));
        let awaited_seq = self.memory.as_ref().map(|memory| memory.last_seq);
        self.purge = Some(Purge { expiry, awaited_seq, started: Instant::now(), n_messages, n_keys });
    }

    /// Notes with the next transaction how far the messages have come, and then removes what is kept no longer.
    pub(crate) fn keep(&mut self, keep: Keep) {
        self.keep = Some(keep);
    }

    /// What has happened since they were taken last.
    pub(crate) fn take_events(&mut self) -> Vec<StoreEvent> {
        std::mem::take(&mut self.events)
    }

    fn expiry(&self) -> Option<Expiry> {
        self.purge.as_ref().map(|purge| purge.expiry)
    }

    /// What is to expire has to be indexed first, however little it is.
    fn awaited_seq(&self) -> i64 {
        self.purge.as_ref().and_then(|purge| purge.awaited_seq).unwrap_or(0)
    }

    fn removed(&mut self, removed: Removed) {
        let Removed { n_messages, n_keys, is_all } = removed;
        if n_messages + n_keys > 0 {
            self.events.push(StoreEvent::Expired { messages: n_messages as u64, keys: n_keys as u64 });
        }
        let Some(purge) = &mut self.purge else {
            return;
        };
        purge.n_messages += n_messages;
        purge.n_keys += n_keys;
        if is_all && let Some(purge) = self.purge.take_if(|purge| purge.awaited_seq.is_some()) {
            let Purge { n_messages, n_keys, started, .. } = purge;
            if n_messages + n_keys > 0 {
                let (messages, keys) = (n_messages as u64, n_keys as u64);
                self.events.push(StoreEvent::Purged { messages, keys, took: started.elapsed() });
            }
        }
        // After a failure it was not known when it was asked for.
        if let (Some(purge), Some(memory)) = (&mut self.purge, &self.memory) {
            purge.awaited_seq.get_or_insert(memory.last_seq);
        }
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
        work: impl FnOnce(&Transaction<'_>, &mut Memory) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let not_committed = |error| store_error(operation, error);
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(not_committed)?;
        // What another process has written meanwhile has to be known, too.
        let data_version = data_version(&tx).map_err(not_committed)?;
        let memory = self.memory.take();
        let known_deleted = memory.as_ref().map(|memory| memory.totals.deleted_count);
        let mut memory = match memory {
            Some(memory) if memory.data_version == data_version => memory,
            // Others write, too: Litestream has tables of its own.
            Some(memory) if memory.totals == Totals::read(&tx).map_err(not_committed)? => {
                Memory { data_version, ..memory }
            }
            known => Memory::read(&tx, &self.tail, self.shape, known).map_err(not_committed)?,
        };
        if let Some(n) = known_deleted.and_then(|n| u64::try_from(memory.totals.deleted_count - n).ok())
            && n > 0
        {
            self.events.push(StoreEvent::Deleted { messages: n });
        }
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
    /// What is remembered of the filter still holds: keys only go when they expire, and then it errs more often.
    fn read(db: &Connection, tail: &Tail, shape: Shape, known: Option<Self>) -> rusqlite::Result<Self> {
        let unindexed = tail.reload(db)?;
        let (last_seq, indexed_seq) = (unindexed.to_seq, unindexed.after_seq);
        let archive = Archive::read(db, shape, segment_of(last_seq))?;
        let mut memory = Self {
            data_version: data_version(db)?,
            totals: Totals::read(db)?,
            tail: tail.clone(),
            stored: Vec::new(),
            seqs: HashMap::new(),
            bytes: 0,
            senders: TailSenders::default(),
            filter: match known {
                Some(known) => read_filter(
                    db,
                    known.filter,
                    &archive,
                    segment_of(known.indexed_seq)..=segment_of(last_seq),
                )?,
                None => read_filter(db, KeyFilter::default(), &archive, 0..=segment_of(last_seq))?,
            },
            archive,
            run: None,
            n_due: 0,
            last_seq,
            indexed_seq,
            ranking: Ranking::read(db)?,
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

    /// A message is stored, if this transaction is committed.
    pub(crate) fn store(&mut self, entry: Entry) {
        self.last_seq = entry.seq;
        self.seqs.insert(entry.key, entry.seq);
        self.bytes += entry.bytes();
        self.stored.push(entry);
    }

    /// The place of the message with this key, if there was one.
    pub(crate) fn find(&self, tx: &Transaction<'_>, key: &Key) -> rusqlite::Result<Option<i64>> {
        if let Some(seq) = self.seqs.get(key) {
            return Ok(Some(*seq));
        }
        let archived = self.archive.candidates(tx, key)?;
        for segment in self.filter.candidates(key).chain(archived) {
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
    fn index(&mut self, tx: &Transaction<'_>, awaited_seq: i64, n_entries: usize) -> rusqlite::Result<()> {
        let is_heavy = self.bytes > TAIL_BYTES_MAX;
        let is_awaited = is_heavy || self.indexed_seq < awaited_seq;
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

    /// Removes so many of the messages and keys that have expired; when there is none, looks at so many senders if the
    /// busiest are not known.
    fn remove(
        &mut self,
        tx: &Transaction<'_>,
        expiry: Option<Expiry>,
        awaited_seq: i64,
        n_max: usize,
        n_senders: usize,
    ) -> rusqlite::Result<Removed> {
        let mut removed = Removed { is_all: self.indexed_seq >= awaited_seq, ..Removed::default() };
        if let Some(Expiry { messages_to, keys_to }) = expiry {
            removed.n_messages =
                expiry::expire_messages(tx, &mut self.senders, &mut self.ranking, messages_to, n_max)?;
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
        self.ranking.look(tx, &self.senders, n_senders)?;
        Ok(removed)
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
    deleted_count: i64,
}

impl Totals {
    fn read(db: &Connection) -> rusqlite::Result<Self> {
        db.prepare_cached(
            "SELECT writer_id, last_seq, indexed_seq, purged_seq, message_count, sender_count, is_ranked, deleted_count FROM totals",
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
                deleted_count: row.get(7)?,
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
fn index_backlog(db: &mut Connection, tail: &Tail, shape: Shape) -> rusqlite::Result<()> {
    let has_backlog = |(indexed_seq, last_seq)| last_seq > end_of_run(end_of_run(indexed_seq));
    let mut known = None;
    while has_backlog(bounds(db)?) {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another server may have done some of it meanwhile: what is added to counts must be added once.
        let (indexed_seq, last_seq) = bounds(&tx)?;
        if !has_backlog((indexed_seq, last_seq)) {
            return Ok(());
        }
        let data_version = data_version(&tx)?;
        let (mut filter, mut archive) = match known.take() {
            Some((version, filter, archive)) if version == data_version => (filter, archive),
            _ => {
                let archive = Archive::read(&tx, shape, segment_of(last_seq))?;
                (read_filter(&tx, KeyFilter::default(), &archive, 0..=segment_of(last_seq))?, archive)
            }
        };
        let end_seq = end_of_run(indexed_seq);
        let mut run = Run::new(tail.stored(&tx, indexed_seq, end_seq)?);
        run.write(&tx, &mut filter, usize::MAX)?;
        tx.commit()?;
        archive.write_all(db, &mut filter, segment_of(end_seq + 1))?;
        known = Some((data_version, filter, archive));
        checkpoints::move_long_log(db)?;
    }
    Ok(())
}

/// Puts filters into the database for which memory has no room, as an older version left them.
fn archive_backlog(db: &mut Connection, shape: Shape) -> rusqlite::Result<()> {
    let (indexed_seq, last_seq) = bounds(db)?;
    let before_segment = segment_of(indexed_seq + 1);
    let mut archive = Archive::read(db, shape, segment_of(last_seq))?;
    if !archive.is_behind(before_segment) {
        return Ok(());
    }
    let mut filter = KeyFilter::default();
    for segment in 0..before_segment {
        filter = read_filter(db, filter, &archive, std::iter::once(segment))?;
        archive.write_all(db, &mut filter, before_segment)?;
    }
    Ok(())
}

/// Stores the filters that an older version had in another form.
fn renew_filters(db: &mut Connection, memory: &Memory) -> rusqlite::Result<()> {
    // Mostly there are none, and nothing is written.
    let tx = db.transaction()?;
    let others: Vec<i64> = tx
        .prepare("SELECT segment FROM segments WHERE length(key_filter) <> ?1")?
        .query_map([key_filter::COLUMN_BYTES], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for segment in others.into_iter().filter(|segment| !memory.archive.has(*segment)) {
        tx.execute(
            "UPDATE segments SET key_filter = ?2 WHERE segment = ?1",
            params![segment, memory.filter.column(segment)],
        )?;
    }
    tx.commit()
}

/// Adds the filters from this segment on as they were stored, and those that were not, from the keys.
fn read_filter(
    db: &Connection,
    mut filter: KeyFilter,
    archive: &Archive,
    segments: impl Iterator<Item = i64>,
) -> rusqlite::Result<KeyFilter> {
    let mut stored = db.prepare("SELECT key_filter FROM segments WHERE segment = ?1")?;
    let mut keys = db.prepare("SELECT key FROM message_keys WHERE segment = ?1")?;
    for segment in segments.filter(|segment| !archive.has(*segment)) {
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

#[cfg(test)]
mod tests {
    use domain::contract::Sample;
    use tempfile::TempDir;

    use super::*;
    use crate::digest::sha256;
    use crate::sqlite::schema;
    use crate::sqlite::tables::key_filter_blocks as key_archive;
    use crate::sqlite::tail;

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
        let mut db = schema::open_and_migrate(&folder.path().join("app.db")).unwrap();
        let tx = db.transaction().unwrap();
        for seq in seqs() {
            tx.execute(
                "INSERT INTO message_keys (segment, key, seq) VALUES (?1, ?2, ?3)",
                params![segment_of(seq), tail::key(1, &id(seq)), seq],
            )
            .unwrap();
        }
        let last_seq = (LAST_SEGMENT << 16) - 1;
        tx.execute("UPDATE totals SET last_seq = ?1, indexed_seq = ?1, purged_seq = ?1", [last_seq]).unwrap();
        tx.commit().unwrap();
        (folder, db)
    }

    fn append(inbox: &mut Inbox, id: &str) -> Appended {
        let mut message = Sample::id(id).message();
        message.verified.body_digest = sha256(&message.body);
        inbox.commit(&[&[message]]).unwrap()[0][0]
    }

    fn assert_all_are_known(inbox: &mut Inbox, seqs: impl Iterator<Item = i64>) {
        for seq in seqs {
            let existing = Appended::Existing { seq: domain::store::Seq(seq), digest: None };
            assert_eq!(append(inbox, &id(seq)), existing);
        }
    }

    fn n_groups(inbox: &Inbox) -> usize {
        inbox.memory.as_ref().unwrap().filter.n_groups()
    }

    /// Goal: past the bound of memory each message is still stored exactly once, while filters go to the database, after a
    /// crash in the middle of that, and after a start. Method: bounds that are small.
    #[test]
    fn past_the_bound_of_the_filter_in_memory_every_key_is_known() {
        let (folder, db) = database();
        let mut inbox = Inbox::open_with(db, Tail::default(), Shape::of(100, AREA_BITS)).unwrap();
        assert_eq!(n_groups(&inbox), 7, "all are in memory");
        inbox.shape = small();
        inbox.memory = Some(Memory::read(&inbox.db, &inbox.tail, small(), None).unwrap());
        let mut n_commits = 0;
        while n_groups(&inbox) > 5 {
            assert_all_are_known(&mut inbox, seqs().skip(n_commits % 31).step_by(331));
            assert!(matches!(append(&mut inbox, &format!("new {n_commits}")), Appended::Stored(_)));
            n_commits += 1;
            assert!(n_commits < 1_000);
        }
        // It writes the next area when it ends.
        append(&mut inbox, "one more");
        drop(inbox);

        let db = schema::open_and_migrate(&folder.path().join("app.db")).unwrap();
        let mut inbox = Inbox::open_with(db, Tail::default(), small()).unwrap();
        assert!(n_groups(&inbox) <= 3, "{}", n_groups(&inbox));
        assert_all_are_known(&mut inbox, seqs());
        for n in 0..n_commits {
            assert!(matches!(append(&mut inbox, &format!("new {n}")), Appended::Existing { .. }));
        }
        let found = seqs().map(|seq| {
            let memory = inbox.memory.as_ref().unwrap();
            memory.archive.candidates(&inbox.db, &tail::key(1, &format!("unknown {seq}"))).unwrap().len()
        });
        assert!(found.sum::<usize>() < 5, "they tell apart what they have and what they have not");
    }

    /// A stored filter that knows more than its area would let a second message in; blocks go with their segments.
    #[test]
    fn a_check_finds_an_area_that_leaves_out_a_key_and_expired_areas_are_removed() {
        let (_folder, db) = database();
        let mut inbox = Inbox::open_with(db, Tail::default(), small()).unwrap();
        let mut filter = KeyFilter::default();
        filter.insert(70, &tail::key(1, &id((70 << 16) + 1)));
        let insert = "INSERT INTO segments (segment, last_received_at_us, key_filter) VALUES (70, 0, ?1)";
        inbox.db.execute(insert, [filter.column(70)]).unwrap();
        assert_eq!(key_archive::incomplete(&inbox.db, small()).unwrap(), [0; 0]);
        filter.insert(70, &tail::key(1, "another"));
        inbox.db.execute("UPDATE segments SET key_filter = ?1", [filter.column(70)]).unwrap();
        assert_eq!(key_archive::incomplete(&inbox.db, small()).unwrap(), [70]);

        let memory = inbox.memory.as_mut().unwrap();
        let tx = inbox.db.transaction().unwrap();
        while memory.archive.forget(&tx, 70, 100).unwrap() {}
        let left: i64 =
            tx.query_row("SELECT min(block >> 16) FROM key_filter_blocks", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 1, "the first area is gone, the second one has segments");
        assert!(!memory.archive.has(3) && memory.archive.has(70));
    }

    /// Two servers that started together read how far the indexes went, waited for each other, and added the same run to the
    /// counts by time twice. Method: without the lock that keeps starts apart.
    #[test]
    fn what_is_to_be_indexed_is_indexed_once_whoever_starts() {
        const N_MESSAGES: i64 = 60_000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let db = schema::open_and_migrate(&path).unwrap();
        let messages = "INSERT INTO messages WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1) \
                        SELECT n, 1, 'm' || n, '+1', '+2', '', n * 1000, '', NULL, n, zeroblob(32), x'' FROM n";
        db.execute(messages, [N_MESSAGES]).unwrap();
        db.execute("UPDATE totals SET last_seq = ?1, message_count = ?1", [N_MESSAGES]).unwrap();
        let start = || {
            let mut db = schema::open_writer(&path).unwrap();
            index_backlog(&mut db, &Tail::default(), Shape::default()).unwrap();
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(start);
            }
        });
        let (indexed_seq, _) = bounds(&db).unwrap();
        assert!(indexed_seq > N_MESSAGES / 3);
        let sum = "SELECT sum(message_count) FROM time_counts WHERE level = 0";
        let counted: i64 = db.query_row(sum, [], |row| row.get(0)).unwrap();
        assert_eq!(counted, indexed_seq);
    }
}
