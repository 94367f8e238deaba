//! The one thread that writes: a bounded queue in front, group commit behind.
//!
//! The thread takes one delivery, then whatever else already waits, up to a bound, and commits all
//! of it at once. There is no timer: while one commit is being flushed the next batch gathers by
//! itself, so that a lone message never waits for company.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::error::failure;
use super::{CommitReport, SqliteOptions, batch, schema};

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

/// What a waiting message takes up beside its body: its parsed fields and its place in the queue.
const MESSAGE_BYTES_EXTRA: usize = 512;

/// Pages in the write-ahead log from which on it is moved into the database (16 MiB of 4 KiB pages):
/// SQLite would do it every 1,000 pages, before the commit returns, and rewrite hot pages more often.
const CHECKPOINT_PAGES: i32 = 4096;

const OPERATION: &str = "append messages";

thread_local! {
    /// Pages in the write-ahead log after the last commit of this thread.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

pub(super) struct Writer {
    queue: mpsc::Sender<Command>,
    /// Bytes that may still be queued.
    budget: Arc<Semaphore>,
    /// Whether the last commit failed.
    failing: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Command {
    Append(Job),
    Close,
}

struct Job {
    messages: Vec<NewMessage>,
    /// Given back when the job is dropped, which is when it is answered.
    budget: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Vec<Appended>, StoreError>>,
}

impl Writer {
    pub(super) fn start(db: Connection, options: SqliteOptions) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_DELIVERIES_MAX);
        let failing = Arc::new(AtomicBool::new(false));
        let mut thread = WriterThread {
            path: options.path,
            db: None,
            waiting,
            batch_messages_max: options.batch_messages_max,
            on_commit: options.on_commit,
            failing: Arc::clone(&failing),
        };
        thread.adopt(db);
        let thread = thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || thread.run())
            .expect("a thread can be started while the program starts");
        Self {
            queue,
            budget: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            failing,
            thread: Mutex::new(Some(thread)),
        }
    }

    pub(super) async fn append(&self, messages: Vec<NewMessage>) -> Result<Vec<Appended>, StoreError> {
        use mpsc::error::TrySendError;

        let busy = |why| failure(StoreErrorKind::Busy, OPERATION, why);
        let closed = || failure(StoreErrorKind::Unavailable, OPERATION, "the store is closing");

        let bytes = u32::try_from(queued_bytes(&messages).min(QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let budget = match Arc::clone(&self.budget).try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(busy("the queue is full (bytes)")),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(closed()),
        };
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(Command::Append(Job { messages, budget, reply })) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(busy("the queue is full (deliveries)")),
            Err(TrySendError::Closed(_)) => return Err(closed()),
        }
        answer.await.unwrap_or_else(|_| {
            Err(failure(StoreErrorKind::Unknown, OPERATION, "the writer ended before it answered"))
        })
    }

    /// If the last commit failed, tries one now: whoever waits for readiness sends no messages that
    /// would show that the disk is well again.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        if self.queue.is_closed() {
            return Err(failure(StoreErrorKind::Fault, "write", "the writer has ended"));
        }
        if self.failing.load(Ordering::Acquire) {
            self.append(Vec::new()).await?;
        }
        Ok(())
    }

    pub(super) fn queue_depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    pub(super) async fn close(&self) {
        self.budget.close();
        // Fails only if the thread has ended already.
        let _ = self.queue.send(Command::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread was printed when it happened; there is nothing left to close.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

fn queued_bytes(messages: &[NewMessage]) -> usize {
    messages.iter().map(|m| m.body.len() + MESSAGE_BYTES_EXTRA).sum()
}

struct WriterThread {
    path: PathBuf,
    /// `None` after a failure, until the database is opened anew: what SQLite and the kernel still
    /// hold of it is then not to be relied on.
    db: Option<Connection>,
    waiting: mpsc::Receiver<Command>,
    batch_messages_max: usize,
    on_commit: Box<dyn Fn(CommitReport) + Send>,
    failing: Arc<AtomicBool>,
}

impl WriterThread {
    fn run(mut self) {
        while let Some(command) = self.waiting.blocking_recv() {
            match command {
                Command::Append(job) => {
                    let jobs = self.gather(job);
                    self.settle(jobs);
                    self.checkpoint_if_due();
                }
                Command::Close => self.waiting.close(),
            }
        }
        if let Some(db) = self.db.take() {
            // If it fails, the next start does it.
            let _ = db.execute_batch("PRAGMA wal_checkpoint(truncate)");
        }
    }

    /// `first` and whatever else already waits, up to the bounds of a batch.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut n_messages = first.messages.len();
        let mut n_bytes = first.budget.num_permits();
        let mut jobs = vec![first];
        while n_messages < self.batch_messages_max && n_bytes < BATCH_BYTES_MAX {
            match self.waiting.try_recv() {
                Ok(Command::Append(job)) => {
                    n_messages += job.messages.len();
                    n_bytes += job.budget.num_permits();
                    jobs.push(job);
                }
                Ok(Command::Close) => self.waiting.close(),
                Err(_) => break,
            }
        }
        jobs
    }

    /// Commits the jobs and answers each. A failure that may be one delivery's own does not fail the
    /// others: they are then tried one by one.
    fn settle(&mut self, jobs: Vec<Job>) {
        let deliveries: Vec<&[NewMessage]> = jobs.iter().map(|job| job.messages.as_slice()).collect();
        match self.commit(&deliveries) {
            Ok(appended) => {
                for (job, appended) in jobs.into_iter().zip(appended) {
                    answer(job, Ok(appended));
                }
            }
            Err(error) if error.kind == StoreErrorKind::Fault && jobs.len() > 1 => {
                for job in jobs {
                    self.settle(vec![job]);
                }
            }
            Err(error) => {
                for job in jobs {
                    answer(job, Err(error.clone()));
                }
            }
        }
    }

    fn commit(&mut self, deliveries: &[&[NewMessage]]) -> Result<Vec<Vec<Appended>>, StoreError> {
        let started = Instant::now();
        let result = match self.connection() {
            Ok(db) => batch::commit(db, deliveries),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.db = None;
        }
        self.failing.store(result.is_err(), Ordering::Release);
        (self.on_commit)(CommitReport {
            messages: deliveries.iter().map(|d| d.len()).sum(),
            took: started.elapsed(),
            ok: result.is_ok(),
        });
        result
    }

    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if self.db.is_none() {
            let db = schema::open_writer(&self.path)
                .map_err(|e| failure(StoreErrorKind::Unavailable, OPERATION, e.to_string()))?;
            self.adopt(db);
        }
        Ok(self.db.as_mut().expect("it was opened just above if there was none"))
    }

    /// Takes over the moving of the write-ahead log from SQLite, which does it inside a commit.
    fn adopt(&mut self, db: Connection) {
        db.wal_hook(Some(|_, pages| {
            WAL_PAGES.set(pages);
            Ok(())
        }));
        self.db = Some(db);
    }

    /// After the answers, so that nobody waits for it but those who come now.
    fn checkpoint_if_due(&mut self) {
        if WAL_PAGES.get() < CHECKPOINT_PAGES {
            return;
        }
        if let Some(db) = &self.db {
            // If it fails, the log stays as it is and the next commit brings us here again.
            let _ = db.execute_batch("PRAGMA wal_checkpoint(passive)");
        }
    }
}

fn answer(job: Job, result: Result<Vec<Appended>, StoreError>) {
    // Whoever asked may have hung up; the message is stored all the same.
    let _ = job.reply.send(result);
}
