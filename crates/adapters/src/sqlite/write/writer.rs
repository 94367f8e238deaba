//! The one thread that writes: the connection that group commit commits with.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};

use crate::sqlite::SqliteOptions;
use crate::sqlite::files::beside;
use crate::sqlite::files::page_cache;
use crate::sqlite::files::presence::Presence;
use crate::sqlite::tables::arrivals::Keep;
use crate::sqlite::wal::checkpoint as checkpoints;
use crate::sqlite::wal::checkpoint::{CHECKPOINT_PAGES, is_failed_flush, log_pages};
use crate::sqlite::wal::gate::{Checkpoint, LogKeeper, checkpoint};
use crate::sqlite::write::expiry::Expiry;
use crate::sqlite::write::group_commit::{Bounds, Commit, Queue, group_commit};
use crate::sqlite::write::transaction as inbox;
use crate::sqlite::write::transaction::Inbox;
use domain::event::CommitReport;
use domain::event::StoreEvent;

/// Deliveries that may wait. At the slowest disk worth having (100 flushes a second, batches of 512)
/// they are committed within a tenth of a second.
pub const QUEUE_DELIVERIES_MAX: usize = 4096;

/// Bytes of the messages that may wait, so that large bodies can't fill the memory: sixty-four of
/// the largest, three hundred thousand of the usual size.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Messages of one commit. More of them gain little per flush, and make the first one wait.
pub const BATCH_MESSAGES_MAX: usize = 512;

/// Bytes of the messages of one commit, for the same reason.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Starts the thread. It ends when the queue is closed, or with the last who could append.
pub(crate) fn start(
    inbox: Inbox,
    presence: Arc<Presence>,
    options: SqliteOptions,
    log_keeper: LogKeeper,
) -> (Queue, Orders) {
    let bounds = Bounds {
        queue_deliveries_max: QUEUE_DELIVERIES_MAX,
        queue_bytes_max: QUEUE_BYTES_MAX,
        batch_messages_max: options.batch_messages_max,
        batch_bytes_max: BATCH_BYTES_MAX,
    };
    let orders = Orders::default();
    let writer = Writer {
        log: beside(&options.path, "-wal"),
        inbox,
        presence,
        orders: orders.clone(),
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
    (queue, orders)
}

/// What the writer does beside what is appended.
pub(crate) enum Order {
    /// Removes this.
    Expire(Expiry),
    /// Notes the time, and removes what is kept no longer.
    Keep(Keep),
}

/// The last order since the writer looked; a clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Orders(Arc<Mutex<Option<Order>>>);

impl Orders {
    /// The writer looks with its next commit.
    pub(crate) fn set(&self, order: Order) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
    }

    fn take(&self) -> Option<Order> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Writer {
    /// The write-ahead log.
    log: PathBuf,
    /// With the same connection for life, whatever fails. As long as it is open, SQLite knows where the commits end that were
    /// flushed, and the next one is written over what was not. If it were opened anew, all that can be read would
    /// count.
    inbox: Inbox,
    presence: Arc<Presence>,
    orders: Orders,
    log_keeper: LogKeeper,
    /// Whether the kernel may hold of the log what it failed to write.
    is_log_suspect: bool,
    /// The same of the database file, once it could not be flushed.
    is_database_suspect: bool,
    on_commit: Box<dyn Fn(CommitReport) + Send>,
    on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>,
}

impl Commit for Writer {
    fn commit(&mut self, deliveries: &[&[NewMessage]]) -> Result<Vec<Vec<Appended>>, StoreError> {
        let started = Instant::now();
        match self.orders.take() {
            Some(Order::Expire(expiry)) => self.inbox.expire(expiry),
            Some(Order::Keep(keep)) => self.inbox.keep(keep),
            None => {}
        }
        let result = self.recover().and_then(|()| self.inbox.commit(deliveries)).and_then(|appended| {
            // It took, but perhaps in a file that nobody will find.
            self.verify_presence(StoreErrorKind::Unknown)?;
            Ok(appended)
        });
        self.is_log_suspect = result.is_err();
        (self.on_commit)(CommitReport {
            messages: deliveries.iter().map(|d| d.len()).sum(),
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
        let Self { inbox, log_keeper, is_database_suspect, .. } = self;
        let mut checkpoint = |how| {
            // Of the tries below one may have failed.
            if *is_database_suspect {
                return false;
            }
            checkpoint(inbox.db(), how).unwrap_or_else(|error| {
                // The log stays as it is and the next commit brings us here again. But not after a failed flush: that
                // the next one succeeds says nothing of the pages that this one was for, nor does SQLite write again
                // what it had moved before it; and then the log, which has it all, would begin anew. The next start
                // settles the file, and SQLite then moves all of the log again.
                *is_database_suspect = is_failed_flush(&error);
                false
            })
        };
        if log_pages() >= CHECKPOINT_PAGES {
            checkpoint(Checkpoint::Passive);
        }
        if log_keeper.keep(log_pages(), || checkpoint(Checkpoint::Restart)) {
            checkpoints::begun_anew();
        }
    }

    fn has_chores(&self) -> bool {
        self.inbox.has_chores() && !self.is_database_suspect
    }

    fn do_chores(&mut self) -> Result<(), StoreError> {
        let result = self.inbox.do_chores();
        self.is_log_suspect = result.is_err();
        self.tell_events();
        result
    }

    fn close(&mut self) {
        // SQLite would remove the log by its name, and that may be another one's by now.
        if self.is_database_suspect || self.presence.verify().is_err() {
            return;
        }
        // What can't be moved now is moved by the next start.
        let _ = checkpoints::move_all_and_close(self.inbox.db());
    }
}

impl Writer {
    fn tell_events(&mut self) {
        self.inbox.take_events().into_iter().for_each(&*self.on_event);
    }

    fn verify_presence(&self, kind: StoreErrorKind) -> Result<(), StoreError> {
        self.presence.verify().map_err(|why| StoreError::new(kind, inbox::APPEND, why))
    }

    /// After a failure, before anything else is written.
    fn recover(&self) -> Result<(), StoreError> {
        let unavailable = |why: String| StoreError::new(StoreErrorKind::Unavailable, inbox::APPEND, why);
        if self.is_database_suspect {
            let why = "the database file could not be flushed: restart when the disk is well";
            return Err(unavailable(why.to_owned()));
        }
        if self.is_log_suspect {
            // What is not in its place is not written to again and again.
            self.verify_presence(StoreErrorKind::Unavailable)?;
            page_cache::settle(&self.log).map_err(|e| unavailable(format!("cannot flush the log: {e}")))?;
        }
        Ok(())
    }
}
