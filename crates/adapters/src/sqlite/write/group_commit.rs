//! Group commit: a bounded queue in front, one thread behind.
//!
//! The thread takes one delivery, then whatever else already waits, up to a bound, and commits all
//! of it at once. There is no timer: while one commit is being flushed the next batch gathers by
//! itself, so that a lone message never waits for company.
//!
//! Nothing of SQLite is here. `tests/interleavings` compiles this file with channels and locks whose
//! every operation lets a scheduler choose who goes on; so it waits for nothing but what tokio has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

/// What a waiting message takes up beside its body: its parsed fields and its place in the queue.
const MESSAGE_BYTES_EXTRA: usize = 512;

/// How long a caller waits for its commit. A disk that takes longer is stuck, and what becomes of the message
/// can't be told; a sender has given up by then.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(15);

/// A commit that is under way for so long counts as failing.
const COMMIT_TIME_READY: Duration = Duration::from_secs(5);

/// How long readiness waits for the commit that it tries.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Deliveries of a failed batch that fail alone, too, before the rest is given up: then it is not one
/// delivery's own fault.
pub(crate) const SINGLE_FAULTS_MAX: usize = 3;

const OPERATION: &str = "append messages";

/// What commits a batch; only the writing thread calls it.
pub(crate) trait Commit {
    /// Appends all deliveries at once, or none. One answer a message, in their order.
    ///
    /// # Errors
    /// Nothing was stored, unless the kind is `Unknown`.
    fn commit(&mut self, deliveries: &[&[NewMessage]]) -> Result<Vec<Vec<Appended>>, StoreError>;

    /// After each batch and its answers: nobody waits for it but those who come now.
    fn tidy(&mut self);

    /// Whether there is something to do while no delivery waits.
    fn has_chores(&self) -> bool;

    /// Does a little of it: a delivery that comes now waits for it.
    ///
    /// # Errors
    /// It was not done, and the next commit may fail likewise.
    fn do_chores(&mut self) -> Result<(), StoreError>;

    /// Nothing will be committed any more.
    fn close(&mut self);
}

/// How much may wait, and how much of it goes into one commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Deliveries that may wait.
    pub(crate) queue_deliveries_max: usize,
    /// Bytes of the deliveries that wait or are being committed.
    pub(crate) queue_bytes_max: usize,
    /// The delivery that reaches so many messages is the last of its batch.
    pub(crate) batch_messages_max: usize,
    /// Likewise in bytes.
    pub(crate) batch_bytes_max: usize,
}

/// The two ends: callers have the queue, a thread runs the other.
pub(crate) fn group_commit<C: Commit>(bounds: Bounds, db: C) -> (Queue, GroupCommit<C>) {
    let (queue, waiting) = mpsc::channel(bounds.queue_deliveries_max);
    let (tell_health, health) = watch::channel(Health::default());
    let budget = Arc::new(Semaphore::new(bounds.queue_bytes_max));
    (
        Queue { queue, bytes_max: bounds.queue_bytes_max, budget, health, probe: Mutex::new(()) },
        GroupCommit { db, waiting, bounds, health: tell_health },
    )
}

/// What is known of the writing thread from outside; the channel that tells it closes when the thread ends.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    /// Whether the last commit failed.
    is_failing: bool,
    /// When the commit began that is under way.
    committing_since: Option<Instant>,
}

impl Health {
    fn is_stuck(&self) -> bool {
        self.committing_since.is_some_and(|since| since.elapsed() > COMMIT_TIME_READY)
    }
}

enum Command {
    Append(Job),
    Close,
}

struct Job {
    messages: Vec<NewMessage>,
    budget: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Vec<Appended>, StoreError>>,
}

impl Job {
    /// Its bytes are given back first: whoever has its answer may send as many again.
    fn answer(self, result: Result<Vec<Appended>, StoreError>) {
        drop((self.messages, self.budget));
        // Whoever asked may have hung up; the message is stored all the same.
        let _ = self.reply.send(result);
    }
}

/// The callers' end.
pub(crate) struct Queue {
    queue: mpsc::Sender<Command>,
    bytes_max: usize,
    /// Bytes that may still be queued.
    budget: Arc<Semaphore>,
    health: watch::Receiver<Health>,
    /// Readiness tries one commit at a time, whoever asks.
    probe: Mutex<()>,
}

impl Queue {
    pub(crate) async fn append(&self, messages: Vec<NewMessage>) -> Result<Vec<Appended>, StoreError> {
        use mpsc::error::TrySendError;

        let busy = |why| StoreError::new(StoreErrorKind::Busy, OPERATION, why);
        let closed = || StoreError::new(StoreErrorKind::Unavailable, OPERATION, "the store is closing");

        // One at least: what appends nothing waits, too, and a semaphore may refuse to give none.
        let bytes = queued_bytes(&messages).clamp(1, self.bytes_max);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
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
        let unknown = |why| Err(StoreError::new(StoreErrorKind::Unknown, OPERATION, why));
        match timeout(COMMIT_WAIT_MAX, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => unknown("the writer ended before it answered"),
            Err(_) => unknown("the commit takes too long"),
        }
    }

    /// If the last commit failed, tries one now: whoever waits for readiness sends no messages that
    /// would show that the disk is well again.
    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        if self.queue.is_closed() {
            return Err(StoreError::new(StoreErrorKind::Fault, "write", "the writer has ended"));
        }
        let not_ready = |why| Err(StoreError::new(StoreErrorKind::Unavailable, "write", why));
        let health = *self.health.borrow();
        if health.is_stuck() {
            return not_ready("a commit takes too long");
        }
        if !health.is_failing {
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

    pub(crate) fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Takes no more, and returns when what was taken is committed and the thread has ended.
    pub(crate) async fn close(&self) {
        self.budget.close();
        // Fails only if the thread is ending already.
        let _ = self.queue.send(Command::Close).await;
        // No health is waited for, but that none will be told any more. If that was for a panic of the
        // thread, it was printed when it happened; there is nothing left to close.
        let _ = self.health.clone().wait_for(|_| false).await;
    }
}

pub(crate) fn queued_bytes(messages: &[NewMessage]) -> usize {
    messages.iter().map(|m| m.body.len() + MESSAGE_BYTES_EXTRA).sum()
}

/// The writing thread's end.
pub(crate) struct GroupCommit<C> {
    db: C,
    waiting: mpsc::Receiver<Command>,
    bounds: Bounds,
    /// The last field, dropped after all else: then nobody has to wait for the end any more.
    health: watch::Sender<Health>,
}

impl<C: Commit> GroupCommit<C> {
    /// Tries to commit nothing, before anybody asks: so that readiness knows from the start whether it can.
    pub(crate) fn try_out(&mut self) {
        // Readiness tells, and tries again.
        let _ = self.commit(&[&[]]);
    }

    /// Commits until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        while let Some(command) = self.next() {
            match command {
                Command::Append(job) => {
                    let jobs = self.gather(job);
                    self.settle(jobs);
                    self.db.tidy();
                }
                Command::Close => self.waiting.close(),
            }
        }
        self.db.close();
    }

    /// What waits next, and while nothing does, chores; `None` when the queue is closed and empty.
    fn next(&mut self) -> Option<Command> {
        while self.db.has_chores() {
            match self.waiting.try_recv() {
                Ok(command) => return Some(command),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            if self.db.do_chores().is_err() {
                self.health.send_modify(|health| health.is_failing = true);
            }
            self.db.tidy();
        }
        self.waiting.blocking_recv()
    }

    /// `first` and whatever else already waits, up to the bounds of a batch.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut n_messages = first.messages.len();
        let mut n_bytes = first.budget.num_permits();
        let mut jobs = vec![first];
        while n_messages < self.bounds.batch_messages_max && n_bytes < self.bounds.batch_bytes_max {
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
                    job.answer(Ok(appended));
                }
            }
            Err(error) if error.kind == StoreErrorKind::Fault && jobs.len() > 1 => self.settle_singly(jobs),
            Err(error) => {
                for job in jobs {
                    job.answer(Err(error.clone()));
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
            job.answer(result);
        }
    }

    /// Whoever has waited behind a lock has waited as long as the batch that met it, and would wait as long
    /// again.
    fn refuse_waiting(&mut self, error: &StoreError) {
        for _ in 0..self.waiting.len() {
            match self.waiting.try_recv() {
                Ok(Command::Append(job)) => job.answer(Err(error.clone())),
                Ok(Command::Close) => self.waiting.close(),
                Err(_) => return,
            }
        }
    }

    fn commit(&mut self, deliveries: &[&[NewMessage]]) -> Result<Vec<Vec<Appended>>, StoreError> {
        self.health.send_modify(|health| health.committing_since = Some(Instant::now()));
        let result = self.db.commit(deliveries);
        let is_failing = result.is_err();
        self.health.send_replace(Health { is_failing, committing_since: None });
        result
    }
}
