//! The load: connections that each post one new message after the other, as fast as they are answered.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapters::signature::XSignature;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::SECRET;

/// What came of a load.
pub(crate) struct Outcome {
    pub(crate) requests_per_s: f64,
    pub(crate) latency_us: Histogram<u64>,
    /// Answers other than 200.
    pub(crate) refused: u64,
}

/// Up to a minute, in microseconds, to three digits.
fn histogram() -> Result<Histogram<u64>, hdrhistogram::CreationError> {
    Histogram::new_with_max(60_000_000, 3)
}

/// Posts unique messages for `duration` and waits for the last answers.
pub(crate) async fn run(
    addr: SocketAddr,
    connections: usize,
    duration: Duration,
) -> Result<Outcome, Box<dyn Error + Send + Sync>> {
    let signer = Arc::new(XSignature::new(SECRET.as_bytes())?);
    let started = Instant::now();
    let deadline = started + duration;
    let tasks: Vec<_> = (0..connections)
        .map(|connection| tokio::spawn(post_until(addr, connection, deadline, Arc::clone(&signer))))
        .collect();
    let mut latency_us = histogram()?;
    let mut refused = 0;
    for task in tasks {
        let (latencies, n) = task.await??;
        latency_us.add(&latencies)?;
        refused += n;
    }
    let requests_per_s = latency_us.len() as f64 / started.elapsed().as_secs_f64();
    Ok(Outcome { requests_per_s, latency_us, refused })
}

async fn post_until(
    addr: SocketAddr,
    connection: usize,
    deadline: Instant,
    signer: Arc<XSignature>,
) -> Result<(Histogram<u64>, u64), Box<dyn Error + Send + Sync>> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let mut latency_us = histogram()?;
    let mut refused = 0;
    let mut answer = Vec::with_capacity(1024);
    for n in 0_u64.. {
        let request = request(&signer, connection, n);
        let started = Instant::now();
        if started >= deadline {
            break;
        }
        stream.write_all(&request).await?;
        answer.clear();
        // The body of an answer to a webhook is an object without nested ones: it ends the answer.
        while !answer.ends_with(b"}") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err("the server closed a connection".into());
            }
        }
        latency_us.saturating_record(u64::try_from(started.elapsed().as_micros())?);
        refused += u64::from(!answer.starts_with(b"HTTP/1.1 200"));
    }
    Ok((latency_us, refused))
}

/// A signed webhook of a usual size, with an id that sorts at random.
fn request(signer: &XSignature, connection: usize, n: u64) -> Vec<u8> {
    let mixed = (n ^ (connection as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let body = format!(
        r#"{{"message_id":"wamid.{mixed:016X}{n:X}-{connection:X}","from":"+91987654{:04}","to":"+14155550100","ts":"2025-01-15T10:{:02}:{:02}Z","text":"Where is my order number {n}? It should have been here on Monday."}}"#,
        mixed % 5000,
        n / 60 % 60,
        n % 60,
    );
    let signature = signer.sign(body.as_bytes());
    let length = body.len();
    format!(
        "POST /webhook HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nX-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
