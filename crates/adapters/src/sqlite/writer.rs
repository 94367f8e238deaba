//! The one thread that writes: a bounded queue in front, group commit behind.
//!
//! The thread takes one delivery, then whatever else already waits, up to a bound, and commits all
//! of it at once. There is no timer: while one commit is being flushed the next batch gathers by
//! itself, so that a lone message never waits for company.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::error::failure;
use super::{CommitReport, SqliteOptions, batch, beside, page_cache};

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

/// How long a caller waits for its commit. A disk that takes longer is stuck, and what becomes of the message
/// can't be told; a sender has given up by then.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(15);

/// A commit that is under way for so long counts as failing.
const COMMIT_TIME_READY: Duration = Duration::from_secs(5);

/// How long readiness waits for the commit that it tries.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Deliveries of a failed batch that fail alone, too, before the rest is given up: then it is not one
/// delivery's own fault.
const SINGLE_FAULTS_MAX: usize = 3;

const OPERATION: &str = "append messages";

thread_local! {
    /// Pages in the write-ahead log after the last commit of this thread.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

pub(super) struct Writer {
    queue: mpsc::Sender<Command>,
    /// Bytes that may still be queued.
    budget: Arc<Semaphore>,
    health: Arc<Health>,
    /// Readiness tries one commit at a time, whoever asks.
    probe: tokio::sync::Mutex<()>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What is known of the writing thread from outside.
#[derive(Default)]
struct Health {
    /// Whether the last commit failed.
    is_failing: AtomicBool,
    /// When the commit began that is under way.
    committing_since: Mutex<Option<Instant>>,
}

impl Health {
    fn set_committing(&self, since: Option<Instant>) {
        *self.committing_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn is_stuck(&self) -> bool {
        let since = *self.committing_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() > COMMIT_TIME_READY)
    }
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
        let health = Arc::new(Health::default());
        let (end, ended) = oneshot::channel();
        take_over_checkpoints(&db);
        let thread = WriterThread {
            log: beside(&options.path, "-wal"),
            db,
            is_log_suspect: false,
            is_database_suspect: false,
            waiting,
            batch_messages_max: options.batch_messages_max,
            on_commit: options.on_commit,
            health: Arc::clone(&health),
        };
        let run = move || {
            thread.run();
            // Nobody may be waiting for it.
            let _ = end.send(());
        };
        thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(run)
            .expect("a thread can be started while the program starts");
        Self {
            queue,
            budget: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            health,
            probe: tokio::sync::Mutex::new(()),
            ended: Mutex::new(Some(ended)),
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
        let unknown = |why| Err(failure(StoreErrorKind::Unknown, OPERATION, why));
        match timeout(COMMIT_WAIT_MAX, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => unknown("the writer ended before it answered"),
            Err(_) => unknown("the commit takes too long"),
        }
    }

    /// If the last commit failed, tries one now: whoever waits for readiness sends no messages that
    /// would show that the disk is well again.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        if self.queue.is_closed() {
            return Err(failure(StoreErrorKind::Fault, "write", "the writer has ended"));
        }
        let not_ready = |why| Err(failure(StoreErrorKind::Unavailable, "write", why));
        if self.health.is_stuck() {
            return not_ready("a commit takes too long");
        }
        if !self.health.is_failing.load(Ordering::Acquire) {
            return Ok(());
        }
        let Ok(_turn) = self.probe.try_lock() else {
            return not_ready("the last commit failed, and one is being tried");
        };
        match timeout(PROBE_WAIT_MAX, self.append(Vec::new())).await {
            Ok(result) => result.map(drop),
            Err(_) => not_ready("the last commit failed, and trying one takes long"),
        }
    }

    pub(super) fn queue_depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    pub(super) async fn close(&self) {
        self.budget.close();
        // Fails only if the thread has ended already.
        let _ = self.queue.send(Command::Close).await;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            // A panic of the thread was printed when it happened; there is nothing left to close.
            let _ = ended.await;
        }
    }
}

fn queued_bytes(messages: &[NewMessage]) -> usize {
    messages.iter().map(|m| m.body.len() + MESSAGE_BYTES_EXTRA).sum()
}

struct WriterThread {
    /// The write-ahead log.
    log: PathBuf,
    /// The same one for life, whatever fails. As long as it is open, SQLite knows where the commits end that were
    /// flushed, and the next one is written over what was not. If it were opened anew, all that can be read would
    /// count.
    db: Connection,
    /// Whether the kernel may hold of the log what it failed to write.
    is_log_suspect: bool,
    /// The same of the database file, once it could not be flushed.
    is_database_suspect: bool,
    waiting: mpsc::Receiver<Command>,
    batch_messages_max: usize,
    on_commit: Box<dyn Fn(CommitReport) + Send>,
    health: Arc<Health>,
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
        if self.is_database_suspect {
            return;
        }
        // Without waiting: what another process keeps from being moved stays in the log, and the next
        // start moves it.
        let _ = self.db.busy_timeout(Duration::ZERO);
        if self.db.execute_batch("PRAGMA wal_checkpoint(truncate)").is_ok() {
            // SQLite then removes the log.
            let _ = self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
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
            Err(error) if error.kind == StoreErrorKind::Fault && jobs.len() > 1 => self.settle_singly(jobs),
            Err(error) => {
                for job in jobs {
                    answer(job, Err(error.clone()));
                }
                if error.kind == StoreErrorKind::Busy {
                    self.refuse_waiting(&error);
                }
            }
        }
    }

    fn settle_singly(&mut self, jobs: Vec<Job>) {
        let mut n_faults = 0;
        let mut last_fault = None;
        for job in jobs {
            let result = match &last_fault {
                Some(fault) if n_faults == SINGLE_FAULTS_MAX => Err(StoreError::clone(fault)),
                _ => self.commit(&[&job.messages]).map(|mut appended| appended.remove(0)),
            };
            if let Err(error) = &result {
                n_faults = (n_faults + 1).min(SINGLE_FAULTS_MAX);
                last_fault = Some(error.clone());
            }
            answer(job, result);
        }
    }

    /// Whoever has waited behind a lock has waited as long as the batch that met it, and would wait as long
    /// again.
    fn refuse_waiting(&mut self, error: &StoreError) {
        loop {
            match self.waiting.try_recv() {
                Ok(Command::Append(job)) => answer(job, Err(error.clone())),
                Ok(Command::Close) => self.waiting.close(),
                Err(_) => return,
            }
        }
    }

    fn commit(&mut self, deliveries: &[&[NewMessage]]) -> Result<Vec<Vec<Appended>>, StoreError> {
        let started = Instant::now();
        self.health.set_committing(Some(started));
        let result = self.recover().and_then(|()| batch::commit(&mut self.db, deliveries));
        self.is_log_suspect = result.is_err();
        self.health.set_committing(None);
        self.health.is_failing.store(result.is_err(), Ordering::Release);
        (self.on_commit)(CommitReport {
            messages: deliveries.iter().map(|d| d.len()).sum(),
            took: started.elapsed(),
            ok: result.is_ok(),
        });
        result
    }

    /// After a failure, before anything else is written.
    fn recover(&self) -> Result<(), StoreError> {
        let unavailable = |why: String| failure(StoreErrorKind::Unavailable, OPERATION, why);
        if self.is_database_suspect {
            let why = "the database file could not be flushed: restart when the disk is well";
            return Err(unavailable(why.to_owned()));
        }
        if self.is_log_suspect {
            page_cache::settle(&self.log).map_err(|e| unavailable(format!("cannot flush the log: {e}")))?;
        }
        Ok(())
    }

    /// After the answers, so that nobody waits for it but those who come now.
    fn checkpoint_if_due(&mut self) {
        if WAL_PAGES.get() < CHECKPOINT_PAGES || self.is_database_suspect {
            return;
        }
        if let Err(error) = self.db.execute_batch("PRAGMA wal_checkpoint(passive)") {
            // The log stays as it is and the next commit brings us here again. But not after a failed flush: that
            // the next one succeeds says nothing of the pages that this one was for, nor does SQLite write again
            // what it had moved before it; and then the log, which has it all, would begin anew. The next start
            // settles the file, and SQLite then moves all of the log again.
            self.is_database_suspect = is_failed_flush(&error);
        }
    }
}

/// Takes over the moving of the write-ahead log from SQLite, which does it inside a commit and when it closes.
fn take_over_checkpoints(db: &Connection) {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("SQLite has this setting");
    db.wal_hook(Some(|_, pages| {
        WAL_PAGES.set(pages);
        Ok(())
    }));
}

fn is_failed_flush(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_FSYNC)
}

fn answer(job: Job, result: Result<Vec<Appended>, StoreError>) {
    // Whoever asked may have hung up; the message is stored all the same.
    let _ = job.reply.send(result);
}
