//! Group commit: a bounded queue in front, one thread behind.
//!
//! The thread takes one write, then whatever else already waits, up to a bound, and commits all
//! of it at once. There is no timer: while one commit is being flushed the next batch gathers by
//! itself, so that a lone message never waits for company.
//!
//! Nothing here knows SQLite. `tests/interleavings` compiles this file with channels and locks at whose every operation a
//! scheduler may run another task; so this file waits only with tokio's means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::message::NewMessage;
use domain::store::{Appended, StoreError, StoreErrorKind};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

/// Bytes of a waiting message beside its body: its parsed fields and its entry in the queue.
const MESSAGE_BYTES_EXTRA: usize = 512;

/// Time that a caller waits for its commit. A disk that takes longer is stuck, and nobody can tell whether the message will
/// be stored; a sender has given up by then.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(15);

/// Time after which a commit under way counts as failing.
const COMMIT_TIME_READY: Duration = Duration::from_secs(5);

/// Time that readiness waits for the commit that it tries.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Writes of a failed batch that fail alone too, before the rest is given up: then it is not one write's own fault.
pub(crate) const SINGLE_FAULTS_MAX: usize = 3;

const OPERATION: &str = "append messages";

/// A write that waits in the queue.
pub(crate) enum Write<O> {
    /// Messages to store, all or none. No messages at all are a probe: they flush, and so show whether commits work.
    Append(Vec<NewMessage>),
    /// Other work for the writer.
    Order(O),
}

impl<O> Write<O> {
    pub(crate) fn messages(&self) -> &[NewMessage] {
        match self {
            Self::Append(messages) => messages,
            Self::Order(_) => &[],
        }
    }
}

/// Commits batches; only the writer thread calls it.
pub(crate) trait Commit {
    /// Work other than messages.
    type Order;

    /// Commits all writes at once, or none. Returns one answer for each message, in their order.
    ///
    /// # Errors
    /// Nothing was stored, unless the kind is `Unknown`.
    fn commit(&mut self, writes: &[&Write<Self::Order>]) -> Result<Vec<Vec<Appended>>, StoreError>;

    /// Tidies up after each batch and its answers: only writes that come now wait for it.
    fn tidy(&mut self);

    /// Returns true if there is work to do while no write waits.
    fn has_chores(&self) -> bool;

    /// Does a little of that work: a write that comes now waits for it.
    ///
    /// # Errors
    /// It was not done, and the next commit may fail likewise.
    fn do_chores(&mut self) -> Result<(), StoreError>;

    /// Ends the work: nothing will be committed any more.
    fn close(&mut self);
}

/// Bounds of the queue and of one commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Writes that may wait.
    pub(crate) queue_writes_max: usize,
    /// Bytes of the writes that wait or are being committed.
    pub(crate) queue_bytes_max: usize,
    /// The write that reaches this many messages is the last of its batch.
    pub(crate) batch_messages_max: usize,
    /// The write that reaches this many bytes is the last of its batch.
    pub(crate) batch_bytes_max: usize,
}

/// Returns the two ends: callers have the queue, a thread runs the other.
pub(crate) fn group_commit<C: Commit>(bounds: Bounds, db: C) -> (Queue<C::Order>, GroupCommit<C>) {
    let (queue, waiting) = mpsc::channel(bounds.queue_writes_max);
    let (tell_health, health) = watch::channel(Health::default());
    let budget = Arc::new(Semaphore::new(bounds.queue_bytes_max));
    (
        Queue { queue, bytes_max: bounds.queue_bytes_max, budget, health, probe: Mutex::new(()) },
        GroupCommit { db, waiting, bounds, health: tell_health },
    )
}

/// Health of the writer thread as others see it; the channel that tells it closes when the thread ends.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    /// True if the last commit failed.
    is_failing: bool,
    /// Start of the commit under way.
    committing_since: Option<Instant>,
}

impl Health {
    fn is_stuck(&self) -> bool {
        self.committing_since.is_some_and(|since| since.elapsed() > COMMIT_TIME_READY)
    }
}

enum Command<O> {
    Write(Job<O>),
    Close,
}

struct Job<O> {
    write: Write<O>,
    budget: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Vec<Appended>, StoreError>>,
}

impl<O> Job<O> {
    /// Answers the caller. The bytes are released first: a caller with an answer may send as many again.
    fn answer(self, result: Result<Vec<Appended>, StoreError>) {
        drop((self.write, self.budget));
        // The caller may have hung up; the message is stored all the same.
        let _ = self.reply.send(result);
    }
}

/// The callers' end.
pub(crate) struct Queue<O> {
    queue: mpsc::Sender<Command<O>>,
    bytes_max: usize,
    /// Bytes that may still be queued.
    budget: Arc<Semaphore>,
    health: watch::Receiver<Health>,
    /// Readiness tries one commit at a time, whoever asks.
    probe: Mutex<()>,
}

impl<O> Queue<O> {
    /// Appends messages, all or none; returns one answer for each. A full queue refuses them at once.
    pub(crate) async fn append(&self, messages: Vec<NewMessage>) -> Result<Vec<Appended>, StoreError> {
        use mpsc::error::TrySendError;
        use tokio::sync::TryAcquireError;

        // At least one: an append of nothing waits too, and a semaphore may refuse to give none.
        let bytes = queued_bytes(&messages).clamp(1, self.bytes_max);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let budget = match Arc::clone(&self.budget).try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => return Err(busy("the queue is full (bytes)")),
            Err(TryAcquireError::Closed) => return Err(closed()),
        };
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(Command::Write(Job { write: Write::Append(messages), budget, reply })) {
            Ok(()) => answered(answer).await,
            Err(TrySendError::Full(_)) => Err(busy("the queue is full (appends)")),
            Err(TrySendError::Closed(_)) => Err(closed()),
        }
    }

    /// Gives the writer other work, which it takes up with a commit. Waits for room in a full queue: under a load that goes
    /// on forever the work would never be done otherwise.
    pub(crate) async fn order(&self, order: O) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let give = async {
            let budget = Arc::clone(&self.budget).acquire_owned().await.map_err(|_| closed())?;
            let job = Job { write: Write::Order(order), budget, reply };
            self.queue.send(Command::Write(job)).await.map_err(|_| closed())
        };
        match timeout(COMMIT_WAIT_MAX, give).await {
            Ok(given) => given?,
            Err(_) => return Err(busy("the queue stays full")),
        }
        answered(answer).await.map(drop)
    }

    /// Returns whether commits work. If the last one failed, tries one now: a sender that waits for readiness sends no
    /// messages that would show that the disk works again.
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
        let Ok(_probing) = self.probe.try_lock() else {
            return not_ready("the last commit failed, and one is being tried");
        };
        match timeout(PROBE_WAIT_MAX, self.append(Vec::new())).await {
            Ok(result) => result.map(drop),
            Err(_) => not_ready("the last commit failed, and trying one takes long"),
        }
    }

    /// Returns how many writes wait.
    pub(crate) fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Takes no more writes, and returns when those that wait are committed and the thread has ended.
    pub(crate) async fn close(&self) {
        self.budget.close();
        // Fails only if the thread is ending already.
        let _ = self.queue.send(Command::Close).await;
        // Waits for the end of the channel, not for any health. If a panic of the thread ended it, that was printed when it
        // happened; there is nothing left to close.
        let _ = self.health.clone().wait_for(|_| false).await;
    }
}

fn busy(why: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Busy, OPERATION, why)
}

fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, OPERATION, "the store is closing")
}

/// Waits for the answer to a write, within bounded time.
async fn answered(
    answer: oneshot::Receiver<Result<Vec<Appended>, StoreError>>,
) -> Result<Vec<Appended>, StoreError> {
    let unknown = |why: &str| Err(StoreError::new(StoreErrorKind::Unknown, OPERATION, why));
    match timeout(COMMIT_WAIT_MAX, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => unknown("the writer ended before it answered"),
        Err(_) => unknown("the commit takes too long"),
    }
}

pub(crate) fn queued_bytes(messages: &[NewMessage]) -> usize {
    messages.iter().map(|m| m.body.len() + MESSAGE_BYTES_EXTRA).sum()
}

/// The writer thread's end.
pub(crate) struct GroupCommit<C: Commit> {
    db: C,
    waiting: mpsc::Receiver<Command<C::Order>>,
    bounds: Bounds,
    /// Last field, dropped after all others: then nobody has to wait for the end any more.
    health: watch::Sender<Health>,
}

impl<C: Commit> GroupCommit<C> {
    /// Commits nothing, before anybody writes: so readiness knows from the start whether commits work.
    pub(crate) fn try_out(&mut self) {
        // Readiness reports a failure, and tries again.
        let _ = self.commit(&[&Write::Append(Vec::new())]);
    }

    /// Commits until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        while let Some(command) = self.next() {
            match command {
                Command::Write(job) => {
                    let jobs = self.gather(job);
                    self.commit_and_answer(jobs);
                    self.db.tidy();
                }
                Command::Close => self.waiting.close(),
            }
        }
        self.db.close();
    }

    /// Returns what waits next, and does chores while nothing does; `None` when the queue is closed and empty.
    fn next(&mut self) -> Option<Command<C::Order>> {
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

    /// Returns `first` and whatever else already waits, up to the bounds of a batch.
    fn gather(&mut self, first: Job<C::Order>) -> Vec<Job<C::Order>> {
        let mut n_messages = first.write.messages().len();
        let mut n_bytes = first.budget.num_permits();
        let mut jobs = vec![first];
        while n_messages < self.bounds.batch_messages_max && n_bytes < self.bounds.batch_bytes_max {
            match self.waiting.try_recv() {
                Ok(Command::Write(job)) => {
                    n_messages += job.write.messages().len();
                    n_bytes += job.budget.num_permits();
                    jobs.push(job);
                }
                Ok(Command::Close) => self.waiting.close(),
                Err(_) => break,
            }
        }
        jobs
    }

    /// Commits the jobs and answers each. A failure that may be one write's own does not fail the others: they are then
    /// tried one by one.
    fn commit_and_answer(&mut self, jobs: Vec<Job<C::Order>>) {
        let writes: Vec<&Write<C::Order>> = jobs.iter().map(|job| &job.write).collect();
        match self.commit(&writes) {
            Ok(appended) => {
                for (job, appended) in jobs.into_iter().zip(appended) {
                    job.answer(Ok(appended));
                }
            }
            Err(error) if error.kind == StoreErrorKind::Fault && jobs.len() > 1 => self.commit_singly(jobs),
            Err(error) => {
                // Before the answers: whoever has one may write again, and has not waited behind the lock.
                if error.kind == StoreErrorKind::Busy {
                    self.refuse_waiting(&error);
                }
                for job in jobs {
                    job.answer(Err(error.clone()));
                }
            }
        }
    }

    fn commit_singly(&mut self, jobs: Vec<Job<C::Order>>) {
        let mut n_faults = 0;
        let mut last_fault = None;
        for job in jobs {
            let result = match &last_fault {
                Some(fault) if n_faults == SINGLE_FAULTS_MAX => Err(StoreError::clone(fault)),
                _ => self.commit(&[&job.write]).map(|mut appended| appended.remove(0)),
            };
            if let Err(error) = &result {
                n_faults = (n_faults + 1).min(SINGLE_FAULTS_MAX);
                last_fault = Some(error.clone());
            }
            job.answer(result);
        }
    }

    /// Refuses all that waits: it has waited behind a lock as long as the batch that met the lock, and would wait as long
    /// again.
    fn refuse_waiting(&mut self, error: &StoreError) {
        for _ in 0..self.waiting.len() {
            match self.waiting.try_recv() {
                Ok(Command::Write(job)) => job.answer(Err(error.clone())),
                Ok(Command::Close) => self.waiting.close(),
                Err(_) => return,
            }
        }
    }

    fn commit(&mut self, writes: &[&Write<C::Order>]) -> Result<Vec<Vec<Appended>>, StoreError> {
        self.health.send_modify(|health| health.committing_since = Some(Instant::now()));
        let result = self.db.commit(writes);
        let is_failing = result.is_err();
        self.health.send_replace(Health { is_failing, committing_since: None });
        result
    }
}
