//! A sender like any other, at an even pace: what becomes of its webhooks while somebody else attacks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsConnector;

use crate::BenchError;
use crate::sender::Sender;
use crate::target::{TLS_NAME, Target};

/// Address of the honest sender.
const ADDR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Webhooks a second: a busy sender, and little for the server.
const RATE_PER_S: u32 = 100;

/// Every so many webhooks one goes over a connection of its own, as from a sender that keeps none.
const WEBHOOKS_PER_NEW_CONNECTION: u64 = 4;

/// A sender waits no longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Results of its webhooks.
pub(crate) struct Outcome {
    pub(crate) n_sent: u64,
    /// From when each was due to its answer 200, in microseconds.
    pub(crate) latency_us: Histogram<u64>,
}

impl Outcome {
    /// Of all that were sent.
    pub(crate) fn accepted_percent(&self) -> f64 {
        100.0 * self.latency_us.len() as f64 / self.n_sent.max(1) as f64
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        self.latency_us.value_at_quantile(0.99) as f64 / 1000.0
    }
}

/// Sends for so long, each webhook once.
pub(crate) async fn send(
    target: &Target,
    sender: &Arc<Sender>,
    lasting: Duration,
) -> Result<Outcome, BenchError> {
    let pool = Arc::new(Pool { addr: target.addr, tls: target.tls.clone(), idle: Mutex::default() });
    let n_sent = u64::try_from(lasting.as_millis())? * u64::from(RATE_PER_S) / 1000;
    let started = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..n_sent {
        let due = started + Duration::from_secs_f64(n as f64 / f64::from(RATE_PER_S));
        sleep_until(due.into()).await;
        let (pool, sender) = (Arc::clone(&pool), Arc::clone(sender));
        tasks.push(tokio::spawn(async move {
            let request = sender.request().1;
            let asked = pool.ask(&request, n % WEBHOOKS_PER_NEW_CONNECTION == 0);
            matches!(timeout(ANSWER_TIME_MAX, asked).await, Ok(Ok(200))).then(|| due.elapsed())
        }));
    }
    let mut latency_us = Histogram::new_with_max(60_000_000, 3)?;
    for task in tasks {
        if let Some(latency) = task.await? {
            latency_us.saturating_record(u64::try_from(latency.as_micros())?);
        }
    }
    Ok(Outcome { n_sent, latency_us })
}

/// A connection of this machine's from another of its addresses.
pub(crate) async fn connect(from: Ipv4Addr, addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Ports of connections that were closed lately may be taken.
    socket.set_reuseaddr(true)?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Connections that are kept.
struct Pool {
    addr: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<Vec<Box<dyn Wire>>>,
}

impl Pool {
    /// The status of the answer.
    async fn ask(&self, request: &[u8], on_new_connection: bool) -> Result<u16, BenchError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut wire = match kept {
            Some(wire) if !on_new_connection => wire,
            _ => self.connect().await?,
        };
        wire.write_all(request).await?;
        let mut answer = Vec::with_capacity(1024);
        // The body of an answer is an object without nested ones: it ends the answer.
        while !answer.ends_with(b"}") {
            if wire.read_buf(&mut answer).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(wire);
        let status = answer.get(9..12).ok_or("an answer without a status")?;
        Ok(std::str::from_utf8(status)?.parse()?)
    }

    async fn connect(&self) -> Result<Box<dyn Wire>, BenchError> {
        let tcp = connect(ADDR, self.addr).await?;
        Ok(match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                Box::new(connector.connect(ServerName::try_from(TLS_NAME)?, tcp).await?)
            }
        })
    }
}
