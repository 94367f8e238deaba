//! The load: connections that post new messages, each as fast as it is answered, or all together at a pace of
//! their own, whatever becomes of the answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::BenchError;
use crate::sender::Sender;

/// Requests of a load, and their rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// At most so long; it can be stopped.
    pub(crate) duration: Duration,
    /// Requests in a second, due at even distances. The latency of one counts from when it was due, so that a
    /// server that holds its senders up does not improve its own figures. Without a rate each connection posts
    /// as soon as it is answered.
    pub(crate) rate_per_s: Option<f64>,
}

impl Load {
    /// As much as the server takes, until it is stopped.
    pub(crate) const FULL: Self = Self {
        connections: FULL_CONNECTIONS,
        duration: Duration::from_secs(3600), // more than what goes on beside it takes
        rate_per_s: None,
    };
}

/// Connections that together are never without a request under way: half of what one commit takes.
pub(crate) const FULL_CONNECTIONS: usize = 256;

/// Result of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    /// Of answers 200, up to a minute, in microseconds, to three digits.
    pub(crate) latency_us: Histogram<u64>,
    /// Number of answers with another status.
    pub(crate) refused: BTreeMap<u16, u64>,
}

impl Outcome {
    pub(crate) fn accepted(&self) -> u64 {
        self.latency_us.len()
    }

    pub(crate) fn accepted_per_s(&self) -> f64 {
        self.accepted() as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn n_refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Latency in milliseconds that this part of the answers 200 did not exceed.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latency_us.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Returns the runtime of a load: its two threads are no bottleneck to a server on as many cores.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// An argument: seconds, or a part of one.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "must be a number")?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Result<Self, BenchError> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(1024) })
    }

    /// Sends a request and waits for the status of its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u16, BenchError> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        // The body of an answer is an object without nested ones: it ends the answer.
        while !self.answer.ends_with(b"}") {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the server closed a connection".into());
            }
        }
        let status = self.answer.get(9..12).ok_or("an answer without a status")?;
        Ok(std::str::from_utf8(status)?.parse()?)
    }
}

/// A load under way. If it is dropped it goes on, and ends with its time or its server.
pub(crate) struct Running {
    started: Instant,
    stopped: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<(), BenchError>>>,
    outcome: Arc<Mutex<Outcome>>,
}

/// Posts what the sender makes.
pub(crate) async fn start(addr: SocketAddr, sender: &Arc<Sender>, load: Load) -> Result<Running, BenchError> {
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        connections.push(Connection::open(addr).await?);
    }
    let started = Instant::now();
    let stopped = Arc::new(AtomicBool::new(false));
    let outcome = Arc::new(Mutex::new(Outcome {
        took: Duration::ZERO,
        latency_us: Histogram::new_with_max(60_000_000, 3)?,
        refused: BTreeMap::new(),
    }));
    let first = sender.n_requests();
    let tasks = connections
        .into_iter()
        .map(|connection| {
            let (sender, stopped, outcome) = (Arc::clone(sender), Arc::clone(&stopped), Arc::clone(&outcome));
            let due = move |n: u64| {
                let offset = |rate| Duration::from_secs_f64((n - first) as f64 / rate);
                load.rate_per_s.map(|rate| started + offset(rate))
            };
            let stopped = move || stopped.load(Ordering::Relaxed);
            tokio::spawn(post_until(started + load.duration, stopped, due, connection, sender, outcome))
        })
        .collect();
    Ok(Running { started, stopped, tasks, outcome })
}

impl Running {
    /// Ends it, and waits for the last answers.
    pub(crate) async fn stop(self) -> Result<Outcome, BenchError> {
        self.stopped.store(true, Ordering::Relaxed);
        self.wait().await
    }

    async fn wait(self) -> Result<Outcome, BenchError> {
        for task in self.tasks {
            task.await??;
        }
        let outcome = Arc::into_inner(self.outcome).ok_or("all tasks have ended")?;
        let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.took = self.started.elapsed();
        Ok(outcome)
    }
}

/// Posts for the whole duration, and waits for the last answers.
pub(crate) async fn run(addr: SocketAddr, sender: &Arc<Sender>, load: Load) -> Result<Outcome, BenchError> {
    start(addr, sender, load).await?.wait().await
}

async fn post_until(
    deadline: Instant,
    stopped: impl Fn() -> bool,
    due: impl Fn(u64) -> Option<Instant>,
    mut connection: Connection,
    sender: Arc<Sender>,
    outcome: Arc<Mutex<Outcome>>,
) -> Result<(), BenchError> {
    loop {
        let (n, request) = sender.request();
        let now = Instant::now();
        let due = due(n).unwrap_or(now);
        // What was due but not sent in time because all connections were waiting is not offered any more.
        if due.max(now) >= deadline || stopped() {
            return Ok(());
        }
        if due > now {
            sleep_until(due.into()).await;
        }
        let status = connection.ask(&request).await?;
        let latency_us = u64::try_from(due.elapsed().as_micros())?;
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match status {
            200 => outcome.latency_us.saturating_record(latency_us),
            _ => *outcome.refused.entry(status).or_default() += 1,
        }
    }
}
