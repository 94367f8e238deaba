//! Callers, probes and closers around one queue, and what must be left when they have gone.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use domain::contract::Sample;
use domain::message::NewMessage;
use domain::store::StoreErrorKind;
use shuttle::current::{me, set_label_for_task};
use shuttle::future::{JoinHandle, block_on, spawn, yield_now};
use shuttle::rand::{Rng, thread_rng};
use tokio::time::{clear_triggers, trigger_timeouts};

use crate::disk::{Disk, Fate, Try, bad, is_bad};
use crate::group_commit::{Bounds, Queue, group_commit};

const CALLERS: usize = 4;
const DELIVERIES_PER_CALLER: usize = 2;
/// Tries of a caller until it is answered for good.
const TRIES: usize = 3;
/// An id that any delivery may bring along.
const SHARED: &str = "shared";

/// Waits no longer once the time is up.
#[derive(Clone, Debug)]
struct Impatient;

pub(crate) struct World {
    queue: Queue<()>,
    disk: Disk,
    bounds: Bounds,
    /// True if the queue is too small for all callers.
    is_tight: bool,
    known: Mutex<Known>,
}

/// Knowledge of the callers.
#[derive(Default)]
struct Known {
    /// Deliveries that may be on the disk or not.
    doubtful: BTreeMap<Vec<String>, Vec<NewMessage>>,
    /// Ids that somebody was told to have stored.
    told_stored: BTreeSet<String>,
    /// Tries up to the last failed one that a caller was told of.
    failed_try: Option<usize>,
    /// Tries up to the last one that a caller had an answer from.
    n_answered: usize,
    is_time_up: bool,
    is_closing: bool,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    pub(crate) fn new(fates: &'static [Fate]) -> Arc<Self> {
        clear_triggers();
        let is_tight = thread_rng().gen_bool(0.5);
        let bounds = Bounds {
            queue_writes_max: if is_tight { 2 } else { 64 },
            queue_bytes_max: if is_tight { 3000 } else { 1 << 20 },
            batch_messages_max: thread_rng().gen_range(1..6),
            batch_bytes_max: if thread_rng().gen_bool(0.5) { 1500 } else { 1 << 20 },
        };
        let disk = Disk::new(bounds, fates);
        let (queue, mut writer) = group_commit(bounds, disk.clone());
        shuttle::thread::spawn(|| {
            // What it panics with is the disk's.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                writer.try_out();
                writer.run();
            }));
        });
        Arc::new(Self { queue, disk, bounds, is_tight, known: Mutex::default() })
    }

    /// Lets the tasks of `plan` run in any order, and looks at what they leave.
    pub(crate) fn run(self: Arc<Self>, plan: impl FnOnce(&Arc<Self>)) {
        block_on(async {
            plan(&self);
            loop {
                let Some(task) = self.known().tasks.pop() else { break };
                // An error is a hang-up.
                let _ = task.await;
            }
            clear_triggers();
            if !self.known().is_closing {
                self.settle_all().await;
                futures_util::future::join(self.shut(), self.shut()).await;
            }
            self.check_closed().await;
        });
    }

    /// Callers that send some deliveries, each until it is settled or they give up.
    pub(crate) fn callers(self: &Arc<Self>) {
        for caller in 0..CALLERS {
            let world = Arc::clone(self);
            self.spawn(async move {
                for n in 0..DELIVERIES_PER_CALLER {
                    let delivery = delivery(caller, n);
                    for _ in 0..TRIES {
                        pause().await;
                        if world.call(&delivery).await.is_ok() {
                            break;
                        }
                    }
                }
            });
        }
    }

    /// Some of the tasks that there are now are dropped at any step.
    pub(crate) fn hang_up_some(self: &Arc<Self>) {
        let aborts: Vec<_> = self.known().tasks.iter().map(JoinHandle::abort_handle).collect();
        self.spawn(async move {
            for abort in aborts {
                pause().await;
                if thread_rng().gen_bool(0.5) {
                    abort.abort();
                }
            }
        });
    }

    /// At some step, all that impatient tasks wait for takes too long.
    pub(crate) fn run_out_of_patience(self: &Arc<Self>) {
        let world = Arc::clone(self);
        self.spawn(async move {
            pause().await;
            world.known().is_time_up = true;
            trigger_timeouts(|labels| labels.get::<Impatient>().is_some());
        });
    }

    /// Those who ask for readiness.
    pub(crate) fn probes(self: &Arc<Self>) {
        for _ in 0..2 {
            let world = Arc::clone(self);
            self.spawn(async move {
                for _ in 0..2 {
                    pause().await;
                    world.probe().await;
                }
            });
        }
    }

    /// Somebody gives the writer an order. A full queue does not refuse it.
    pub(crate) fn order(self: &Arc<Self>) {
        let world = Arc::clone(self);
        self.spawn(async move {
            pause().await;
            let given = world.disk.n_tries();
            let answer = world.queue.order(()).await;
            let since =
                |n| world.disk.since(n, |tries: &[Try]| tries.iter().map(|t| t.result).collect::<Vec<_>>());
            match answer.map_err(|error| error.kind) {
                Ok(()) => assert!(since(given).contains(&Ok(())), "not committed"),
                Err(StoreErrorKind::Busy) if !world.known().is_time_up => {
                    let met_lock = since(given.saturating_sub(1)).contains(&Err(StoreErrorKind::Busy));
                    assert!(met_lock, "an order was refused by a full queue");
                }
                Err(_) => {}
            }
        });
    }

    pub(crate) fn close(self: &Arc<Self>) {
        let world = Arc::clone(self);
        self.spawn(async move {
            pause().await;
            world.shut().await;
        });
    }

    fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let is_impatient = thread_rng().gen_bool(0.5);
        let task = spawn(async move {
            if is_impatient {
                set_label_for_task(me(), Impatient);
            }
            task.await;
        });
        self.known().tasks.push(task);
    }

    async fn shut(&self) {
        self.known().is_closing = true;
        self.queue.close().await;
        assert!(self.disk.is_closed() || self.disk.has_panicked(), "the thread is not at its end");
    }

    /// The disk is well again, and nobody is there but us.
    async fn settle_all(&self) {
        self.disk.heal();
        // Red may be what was before. That nobody sends anything must not keep it so.
        while self.queue.ready().await.is_err() {
            yield_now().await;
        }
        // Busy it is while those wait who hung up. First come, first answered: then nothing waits any more.
        while self.queue.append(Vec::new()).await.is_err_and(|e| e.kind == StoreErrorKind::Busy) {
            yield_now().await;
        }
        self.queue.ready().await.unwrap();
        assert_eq!(self.queue.depth(), 0);
        let mut large = Sample::id("large").message();
        large.body = vec![b'x'; self.bounds.queue_bytes_max].into();
        self.call(&[large]).await.unwrap();
        let doubtful = self.known().doubtful.clone();
        for delivery in doubtful.values() {
            let answer = self.call(delivery).await;
            assert_eq!(answer.is_ok(), !is_bad(delivery), "{answer:?}");
        }
        let is_one_at_a_time = self.disk.since(0, |tries| {
            tries.iter().all(|t| t.deliveries.iter().filter(|d| d.is_empty()).count() <= 1)
        });
        assert!(is_one_at_a_time || self.known().is_time_up, "two probes at once");
    }

    async fn check_closed(&self) {
        assert_eq!(self.queue.append(Vec::new()).await.unwrap_err().kind, StoreErrorKind::Unavailable);
        assert_eq!(self.queue.ready().await.unwrap_err().kind, StoreErrorKind::Fault);
        let stored = self.disk.stored();
        for id in &self.known().told_stored {
            assert!(stored.contains_key(id), "{id} is lost");
        }
        for ids in self.known().doubtful.keys() {
            let n_stored = ids.iter().filter(|id| *id != SHARED && stored.contains_key(*id)).count();
            let n_own = ids.iter().filter(|id| *id != SHARED).count();
            assert!(n_stored == 0 || n_stored == n_own, "half of {ids:?} is stored");
        }
    }

    /// Never held where the scheduler may let another go on.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.try_lock().unwrap()
    }
}

fn delivery(caller: usize, n: usize) -> Vec<NewMessage> {
    let mut samples: Vec<Sample> = (0..thread_rng().gen_range(1..=2))
        .map(|i| {
            let id = format!("caller {caller} delivery {n} message {i}");
            if thread_rng().gen_bool(0.1) { bad(&id) } else { Sample::id(&id) }
        })
        .collect();
    if thread_rng().gen_bool(0.3) {
        samples.push(Sample::id(SHARED));
    }
    samples.iter().map(Sample::message).collect()
}

/// So many steps that any order of the tasks comes up.
async fn pause() {
    for _ in 0..thread_rng().gen_range(0..8) {
        yield_now().await;
    }
}
