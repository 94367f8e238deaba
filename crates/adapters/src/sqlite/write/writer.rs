//! The writer thread: the connection that group commit commits with.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use domain::event::{CommitReport, StoreEvent};
use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};

use crate::sqlite::files::presence::Presence;
use crate::sqlite::files::{beside, page_cache};
use crate::sqlite::options::SqliteOptions;
use crate::sqlite::wal::checkpoint::{self, CHECKPOINT_PAGES, Checkpoint, is_failed_flush, log_pages};
use crate::sqlite::wal::gate::LogKeeper;
use crate::sqlite::write::arrival_notes::Keep;
use crate::sqlite::write::expiry::Expiry;
use crate::sqlite::write::group_commit::{Bounds, Commit, Queue, Write, group_commit};
use crate::sqlite::write::transaction::{APPEND, WriteConnection};

/// Appends that may wait. At the slowest disk worth having (100 flushes a second, batches of 512) they are committed within
/// a tenth of a second.
pub const QUEUE_APPENDS_MAX: usize = 4096;

/// Bytes of the messages that may wait, so that large bodies can't fill the memory: sixty-four of the largest, three hundred
/// thousand of the usual size.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Messages of one commit. More of them gain little per flush, and make the first one wait.
pub const BATCH_MESSAGES_MAX: usize = 512;

/// Bytes of the messages of one commit, for the same reason.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Work of the writer beside appends.
pub(crate) enum Order {
    /// Removes what has expired.
    Expire(Expiry),
    /// Notes the time, and removes what has expired by then.
    Keep(Keep),
}

/// Starts the thread. It ends when the queue is closed or dropped.
pub(crate) fn start(
    db: WriteConnection,
    presence: Arc<Presence>,
    options: SqliteOptions,
    log_keeper: LogKeeper,
) -> Queue<Order> {
    let bounds = Bounds {
        queue_writes_max: QUEUE_APPENDS_MAX,
        queue_bytes_max: QUEUE_BYTES_MAX,
        batch_messages_max: options.batch_messages_max,
        batch_bytes_max: BATCH_BYTES_MAX,
    };
    let writer = Writer {
        log: beside(&options.path, "-wal"),
        db,
        presence,
        log_keeper,
        is_log_suspect: false,
        is_database_suspect: false,
        on_commit: options.on_commit,
        on_event: options.on_event,
    };
    let (queue, mut group_commit) = group_commit(bounds, writer);
    group_commit.try_out();
    thread::Builder::new()
        .name("sqlite-writer".to_owned())
        .spawn(|| group_commit.run())
        .expect("a thread can be started while the program starts");
    queue
}

struct Writer {
    /// File of the write-ahead log.
    log: PathBuf,
    /// The same connection for life, whatever fails. While it is open, SQLite knows where the flushed commits end, and
    /// overwrites what comes after them. If it were opened again, everything that can be read would count.
    db: WriteConnection,
    presence: Arc<Presence>,
    log_keeper: LogKeeper,
    /// True if the kernel may hold pages of the log that it failed to write.
    is_log_suspect: bool,
    /// True once the database file could not be flushed.
    is_database_suspect: bool,
    on_commit: Box<dyn Fn(CommitReport) + Send>,
    on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>,
}

impl Commit for Writer {
    type Order = Order;

    fn commit(&mut self, writes: &[&Write<Order>]) -> Result<Vec<Vec<Appended>>, StoreError> {
        let started = Instant::now();
        for write in writes {
            match write {
                Write::Append(_) => {}
                Write::Order(Order::Expire(expiry)) => self.db.expire(*expiry),
                Write::Order(Order::Keep(keep)) => self.db.keep(*keep),
            }
        }
        let appends: Vec<&[NewMessage]> = writes.iter().map(|write| write.messages()).collect();
        let result = self.recover().and_then(|()| self.db.commit(&appends)).and_then(|appended| {
            // It is committed, but perhaps to a file that nobody will find.
            self.verify_presence(StoreErrorKind::Unknown)?;
            Ok(appended)
        });
        self.is_log_suspect = result.is_err();
        (self.on_commit)(CommitReport {
            messages: appends.iter().map(|append| append.len()).sum(),
            took: started.elapsed(),
            ok: result.is_ok(),
        });
        self.tell_events();
        result
    }

    /// Moves the write-ahead log into the database, if that is due.
    fn tidy(&mut self) {
        if self.is_database_suspect {
            return;
        }
        let Self { db, log_keeper, is_database_suspect, .. } = self;
        let mut move_log = |how| {
            // One of the tries below may have failed.
            if *is_database_suspect {
                return false;
            }
            checkpoint::move_log(db.db(), how).unwrap_or_else(|error| {
                // The log stays as it is, and the next commit tries again. But not after a failed flush: the next flush
                // succeeds without the pages of this one, SQLite does not write again what it had moved before, and then
                // the log, which has all of it, would restart. The next start flushes the file, and SQLite then moves
                // the whole log again.
                *is_database_suspect = is_failed_flush(&error);
                false
            })
        };
        if log_pages() >= CHECKPOINT_PAGES {
            move_log(Checkpoint::Passive);
        }
        if log_keeper.keep(log_pages(), || move_log(Checkpoint::Restart)) {
            checkpoint::restarted();
        }
    }

    fn has_chores(&self) -> bool {
        self.db.has_chores() && !self.is_database_suspect
    }

    fn do_chores(&mut self) -> Result<(), StoreError> {
        let result = self.db.do_chores();
        self.is_log_suspect = result.is_err();
        self.tell_events();
        result
    }

    fn close(&mut self) {
        // SQLite would remove the log by its name, and that may be another file by now.
        if self.is_database_suspect || self.presence.verify().is_err() {
            return;
        }
        // The next start moves what can't be moved now.
        let _ = checkpoint::move_all_and_close(self.db.db());
    }
}

impl Writer {
    fn tell_events(&mut self) {
        self.db.take_events().into_iter().for_each(&*self.on_event);
    }

    fn verify_presence(&self, kind: StoreErrorKind) -> Result<(), StoreError> {
        self.presence.verify().map_err(|why| StoreError::new(kind, APPEND, why))
    }

    /// Recovers from a failure before anything else is written.
    fn recover(&self) -> Result<(), StoreError> {
        let unavailable = |why: String| StoreError::new(StoreErrorKind::Unavailable, APPEND, why);
        if self.is_database_suspect {
            let why = "the database file could not be flushed: restart when the disk is well";
            return Err(unavailable(why.to_owned()));
        }
        if self.is_log_suspect {
            // A file that is not in its place is not written again and again.
            self.verify_presence(StoreErrorKind::Unavailable)?;
            page_cache::flush_and_evict(&self.log)
                .map_err(|e| unavailable(format!("cannot flush the log: {e}")))?;
        }
        Ok(())
    }
}
