//! More load than the store takes: what is accepted and what is shed, how long the accepted wait, how much
//! memory the server takes, and how soon it is itself again.
//!
//! Load and server share the machine's cores, so that no load can be a multiple of what the cores take. The
//! store is therefore put on a disk that takes its time for each flush: what it takes is then one batch a
//! flush, and ten times as much is still a load that can really be offered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use adapters::sqlite::QUEUE_APPENDS_MAX;
use serde::Serialize;

use crate::BenchError;
use crate::child::Server;
use crate::load::{self, Connection, Load};
use crate::report;
use crate::sender::{Sender, Shape};
use crate::server::StoreKind;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of each load
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Connections of the load: more than the queue has places, or nothing would be shed
    #[arg(long, default_value_t = 6000)]
    connections: usize,
    /// Connections that idle beside the last load
    #[arg(long, default_value_t = 5000)]
    idle: usize,
    /// Milliseconds that a commit takes beside what the disk takes
    #[arg(long, default_value_t = 200)]
    flush_extra_ms: u64,
    /// Folder of the database
    #[arg(long, default_value = "target")]
    folder: PathBuf,
}

/// Parts of what the store takes, which are offered one after the other.
const LOADS: [f64; 4] = [0.5, 1.0, 2.0, 10.0];

/// Connections beside which others idle: both have to fit into the files that a process may have open.
const CONNECTIONS_BESIDE_IDLE: usize = 2000;

/// A server that is not itself again after so long never will be.
const NORMAL_WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Row {
    load: String,
    idle_connections: usize,
    offered_per_s: f64,
    /// Until the last answer has come: what waits when a load ends is not the store's speed.
    accepted_per_s: f64,
    shed_per_s: f64,
    shed_by_status: BTreeMap<u16, u64>,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    peak_rss_mib: f64,
    normal_after_s: f64,
}

pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    let server =
        Server::on_empty(StoreKind::Group, &args.folder, Duration::from_millis(args.flush_extra_ms))?;
    let rows = load::runtime()?.block_on(measure(&server, args))?;
    report::print(
        &[
            ("load", |row: &Row| row.load.clone()),
            ("idle", |row| row.idle_connections.to_string()),
            ("offered/s", |row| format!("{:.0}", row.offered_per_s)),
            ("accepted/s", |row| format!("{:.0}", row.accepted_per_s)),
            ("shed/s", |row| format!("{:.0}", row.shed_per_s)),
            ("p50 ms", |row| format!("{:.1}", row.p50_ms)),
            ("p99 ms", |row| format!("{:.1}", row.p99_ms)),
            ("max ms", |row| format!("{:.1}", row.max_ms)),
            ("RSS MiB", |row| format!("{:.1}", row.peak_rss_mib)),
            ("normal s", |row| format!("{:.2}", row.normal_after_s)),
            ("shed by status", |row| format!("{:?}", row.shed_by_status)),
        ],
        &rows,
    )?;
    Ok(())
}

async fn measure(server: &Server, args: &Args) -> Result<Vec<Row>, BenchError> {
    let sender = Sender::new(Shape::default(), Load::FULL.duration)?;
    // The first answer opens what later ones find open.
    lone(server.addr, &sender).await?;
    let usual = lone(server.addr, &sender).await?;
    let row = async |name: &str, idle: usize, load: Load| -> Result<Row, BenchError> {
        server.forget_peak()?;
        let outcome = load::run(server.addr, &sender, load).await?;
        let ended = Instant::now() - outcome.took + load.duration;
        while lone(server.addr, &sender).await? > usual.saturating_mul(2) {
            if ended.elapsed() > NORMAL_WAIT_MAX {
                return Err("it does not become itself again".into());
            }
        }
        let offered = (outcome.accepted() + outcome.n_refused()) as f64;
        Ok(Row {
            load: name.to_owned(),
            idle_connections: idle,
            offered_per_s: offered / load.duration.as_secs_f64(),
            accepted_per_s: outcome.accepted_per_s(),
            shed_per_s: outcome.n_refused() as f64 / load.duration.as_secs_f64(),
            p50_ms: outcome.latency_ms(0.5),
            p99_ms: outcome.latency_ms(0.99),
            max_ms: outcome.latency_ms(1.0),
            peak_rss_mib: server.usage()?.peak_rss_kib as f64 / 1024.0,
            normal_after_s: ended.elapsed().as_secs_f64(),
            shed_by_status: outcome.refused,
        })
    };

    let duration = Duration::from_secs(args.seconds);
    // As many at once as the queue holds without being full.
    let closed = Load { connections: QUEUE_APPENDS_MAX / 2, duration, rate_per_s: None };
    let capacity = row("capacity", 0, closed).await?;
    let capacity_per_s = capacity.accepted_per_s;
    let mut rows = vec![capacity];
    for times in LOADS {
        let rate_per_s = Some(times * capacity_per_s);
        rows.push(
            row(&format!("{times} x"), 0, Load { connections: args.connections, duration, rate_per_s })
                .await?,
        );
    }

    let mut idle = Vec::with_capacity(args.idle);
    for _ in 0..args.idle {
        // One that has been answered may idle for longer than one that has asked nothing yet.
        let mut connection = Connection::open(server.addr).await?;
        connection.ask(b"GET /health/live HTTP/1.1\r\nHost: bench\r\n\r\n").await?;
        idle.push(connection);
    }
    let load = Load { connections: CONNECTIONS_BESIDE_IDLE, duration, rate_per_s: Some(capacity_per_s) };
    rows.push(row("1 x", idle.len(), load).await?);
    Ok(rows)
}

/// Returns the time that one message takes when its sender posts no other.
async fn lone(addr: SocketAddr, sender: &Sender) -> Result<Duration, BenchError> {
    let mut connection = Connection::open(addr).await?;
    let request = sender.request().1;
    let started = Instant::now();
    let status = connection.ask(&request).await?;
    // What is shed has not been served, however quickly.
    Ok(if status == 200 { started.elapsed() } else { Duration::MAX })
}
