//! The load: connections that post new messages, each as fast as it is answered, or all together at a pace of
//! their own, whatever becomes of the answers.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adapters::signature::XSignature;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};
use tokio::time::sleep_until;

use crate::server::SECRET;

/// What a task of the load may fail with.
pub(crate) type LoadError = Box<dyn Error + Send + Sync>;

/// What is posted, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    /// Requests in a second, due at even distances. The latency of one counts from when it was due, so that a
    /// server that holds its senders up does not improve its own figures. Without a rate each connection posts
    /// as soon as it is answered.
    pub(crate) rate_per_s: Option<f64>,
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    /// Of answers 200, up to a minute, in microseconds, to three digits.
    pub(crate) latency_us: Histogram<u64>,
    /// How many answers had another status.
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

/// What runs a load: the two threads are no bottleneck to a server on as many cores.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Makes messages that are new each time, and signs them.
pub(crate) struct Sender {
    signer: XSignature,
    n_requests: AtomicU64,
}

impl Sender {
    pub(crate) fn new() -> Result<Arc<Self>, LoadError> {
        Ok(Arc::new(Self { signer: XSignature::new(SECRET.as_bytes())?, n_requests: AtomicU64::new(0) }))
    }

    /// A signed webhook of a usual size, with an id that sorts at random, and its place among all.
    pub(crate) fn request(&self) -> (u64, Vec<u8>) {
        let n = self.n_requests.fetch_add(1, Ordering::Relaxed);
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let body = format!(
            r#"{{"message_id":"wamid.{mixed:016X}{n:X}","from":"+91987654{:04}","to":"+14155550100","ts":"2025-01-15T10:{:02}:{:02}Z","text":"Where is my order number {n}? It should have been here on Monday."}}"#,
            mixed % 5000,
            n / 60 % 60,
            n % 60,
        );
        let signature = self.signer.sign(body.as_bytes());
        let length = body.len();
        let request = format!(
            "POST /webhook HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nX-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        (n, request.into_bytes())
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Result<Self, LoadError> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(1024) })
    }

    /// Sends a request and waits for the status of its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u16, LoadError> {
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

/// Posts unique messages and waits for the last answers.
pub(crate) async fn run(addr: SocketAddr, sender: &Arc<Sender>, load: Load) -> Result<Outcome, LoadError> {
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        connections.push(Connection::open(addr).await?);
    }
    let started = Instant::now();
    let outcome = Arc::new(Mutex::new(Outcome {
        took: Duration::ZERO,
        latency_us: Histogram::new_with_max(60_000_000, 3)?,
        refused: BTreeMap::new(),
    }));
    let first = sender.n_requests.load(Ordering::Relaxed);
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|connection| {
            let (sender, outcome) = (Arc::clone(sender), Arc::clone(&outcome));
            let due = move |n: u64| {
                let offset = |rate| Duration::from_secs_f64((n - first) as f64 / rate);
                load.rate_per_s.map(|rate| started + offset(rate))
            };
            tokio::spawn(post_until(started + load.duration, due, connection, sender, outcome))
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let outcome = Arc::into_inner(outcome).ok_or("all tasks have ended")?;
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.took = started.elapsed();
    Ok(outcome)
}

async fn post_until(
    deadline: Instant,
    due: impl Fn(u64) -> Option<Instant>,
    mut connection: Connection,
    sender: Arc<Sender>,
    outcome: Arc<Mutex<Outcome>>,
) -> Result<(), LoadError> {
    loop {
        let (n, request) = sender.request();
        let due = due(n).unwrap_or_else(Instant::now);
        // What was due but not sent in time because all connections were waiting is not offered any more.
        if due.max(Instant::now()) >= deadline {
            return Ok(());
        }
        sleep_until(due.into()).await;
        let status = connection.ask(&request).await?;
        let latency_us = u64::try_from(due.elapsed().as_micros())?;
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match status {
            200 => outcome.latency_us.saturating_record(latency_us),
            _ => *outcome.refused.entry(status).or_default() += 1,
        }
    }
}
