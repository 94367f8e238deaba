//! The one thread that writes: the connection that group commit commits with.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};

use super::error::store_error;
use super::expiry::Expiry;
use super::group_commit::{Bounds, Commit, Queue, group_commit};
use super::inbox::{self, Inbox};
use super::{CommitReport, Digest, SqliteOptions, schema};

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

/// Pages in the write-ahead log from which on it is moved into the database (16 MiB of 4 KiB pages):
/// SQLite would do it every 1,000 pages, before the commit returns, and rewrite hot pages more often.
const CHECKPOINT_PAGES: i32 = 4096;

thread_local! {
    /// Pages in the write-ahead log after the last commit of this thread.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

/// Starts the thread. It ends when the queue is closed, or with the last who could append.
pub(super) fn start(inbox: Inbox, options: SqliteOptions) -> (Queue, Expired) {
    let bounds = Bounds {
        queue_deliveries_max: QUEUE_DELIVERIES_MAX,
        queue_bytes_max: QUEUE_BYTES_MAX,
        batch_messages_max: options.batch_messages_max,
        batch_bytes_max: BATCH_BYTES_MAX,
    };
    let expired = Expired::default();
    let mut writer = Writer {
        path: options.path,
        digest: options.digest,
        inbox: None,
        expired: expired.clone(),
        on_commit: options.on_commit,
    };
    writer.adopt(inbox);
    let (queue, group_commit) = group_commit(bounds, writer);
    thread::Builder::new()
        .name("sqlite-writer".to_owned())
        .spawn(|| group_commit.run())
        .expect("a thread can be started while the program starts");
    (queue, expired)
}

/// What has expired since the writer last looked; a clone is the same.
#[derive(Clone, Default)]
pub(super) struct Expired(Arc<Mutex<Option<Expiry>>>);

impl Expired {
    /// The writer looks with its next commit.
    pub(super) fn set(&self, expiry: Expiry) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(expiry);
    }

    fn take(&self) -> Option<Expiry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Writer {
    path: PathBuf,
    digest: Digest,
    /// `None` after a failure, until the database is opened anew: what SQLite and the kernel still
    /// hold of it is then not to be relied on.
    inbox: Option<Inbox>,
    expired: Expired,
    on_commit: Box<dyn Fn(CommitReport) + Send>,
}

impl Commit for Writer {
    fn commit(&mut self, deliveries: &[&[NewMessage]]) -> Result<Vec<Vec<Appended>>, StoreError> {
        let started = Instant::now();
        let expired = self.expired.take();
        let result = self.inbox().and_then(|inbox| {
            inbox.expire(expired);
            inbox.commit(deliveries)
        });
        if result.is_err() {
            self.inbox = None;
        }
        (self.on_commit)(CommitReport {
            messages: deliveries.iter().map(|d| d.len()).sum(),
            took: started.elapsed(),
            ok: result.is_ok(),
        });
        result
    }

    /// Moves the write-ahead log into the database, if that is due.
    fn tidy(&mut self) {
        if WAL_PAGES.get() < CHECKPOINT_PAGES {
            return;
        }
        if let Some(inbox) = &self.inbox {
            // If it fails, the log stays as it is and the next commit brings us here again.
            let _ = inbox.db().execute_batch("PRAGMA wal_checkpoint(passive)");
        }
    }

    fn has_chores(&self) -> bool {
        self.inbox.as_ref().is_some_and(Inbox::has_chores)
    }

    fn do_chores(&mut self) -> Result<(), StoreError> {
        let result = self.inbox.as_mut().map_or(Ok(()), Inbox::do_chores);
        if result.is_err() {
            self.inbox = None;
        }
        result
    }

    fn close(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            let db = inbox.db();
            // Without waiting: what another process keeps from being moved stays in the log, and the next
            // start moves it.
            let _ = db.busy_timeout(Duration::ZERO);
            let _ = db.execute_batch("PRAGMA wal_checkpoint(truncate)");
        }
    }
}

impl Writer {
    fn inbox(&mut self) -> Result<&mut Inbox, StoreError> {
        if self.inbox.is_none() {
            let db = schema::open_writer(&self.path)
                .map_err(|e| StoreError::new(StoreErrorKind::Unavailable, inbox::APPEND, e.to_string()))?;
            let inbox = Inbox::open(db, self.digest).map_err(|e| store_error(inbox::APPEND, e))?;
            self.adopt(inbox);
        }
        Ok(self.inbox.as_mut().expect("it was opened just above if there was none"))
    }

    /// Takes over the moving of the write-ahead log from SQLite, which does it inside a commit.
    fn adopt(&mut self, inbox: Inbox) {
        inbox.db().wal_hook(Some(|_, pages| {
            WAL_PAGES.set(pages);
            Ok(())
        }));
        self.inbox = Some(inbox);
    }
}
