//! `kill -9` under load, and the next start on the same store: how soon it is ready, and what it takes up
//! when it has nothing to do.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::BenchError;
use crate::child::Server;
use crate::client::Client;
use crate::load::{self, Load};
use crate::report;
use crate::sender::{Sender, Shape};

/// The program that is shipped; it is built beside this one.
const PROGRAM: &str = "hookkeeper";

/// For what a start leaves to be done later.
const SETTLE_TIME: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A filled database. What is ingested stays in it
    #[arg(long)]
    database: PathBuf,
    /// Seconds of load before each kill
    #[arg(long, default_value = "5", value_parser = load::seconds)]
    seconds: Duration,
    /// Number of restarts
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(Debug, Serialize)]
struct Row {
    kill: u32,
    /// Bytes of the write-ahead log that the killed one left.
    wal_bytes: u64,
    ready_ms: f64,
    idle_rss_mib: f64,
}

pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    let rows: Vec<Row> = (1..=args.rounds).map(|kill| measure(kill, args)).collect::<Result<_, _>>()?;
    report::print(
        &[
            ("kill", |row: &Row| row.kill.to_string()),
            ("log MiB", |row| format!("{:.1}", row.wal_bytes as f64 / f64::from(1 << 20))),
            ("ready ms", |row| format!("{:.0}", row.ready_ms)),
            ("idle MiB", |row| format!("{:.1}", row.idle_rss_mib)),
        ],
        &rows,
    )?;
    match fs::metadata(std::env::current_exe()?.with_file_name(PROGRAM)) {
        Ok(program) => println!("{PROGRAM}: {} bytes", program.len()),
        Err(error) => println!("skipped: size of {PROGRAM} ({error})"),
    }
    Ok(())
}

fn measure(kill: u32, args: &Args) -> Result<Row, BenchError> {
    let server = Server::on(&args.database)?;
    let runtime = load::runtime()?;
    // It ends with its server.
    let sender = Sender::new(Shape::default(), Load::FULL.duration)?;
    let ingest = runtime.block_on(load::start(server.addr, &sender, Load::FULL));
    let _ingest = ingest?;
    thread::sleep(args.seconds);
    drop(server);

    let mut wal = args.database.clone().into_os_string();
    wal.push("-wal");
    let wal_bytes = fs::metadata(wal)?.len();
    let started = Instant::now();
    let server = Server::on(&args.database)?;
    Client::new(server.addr).get("/health/ready")?;
    let ready = started.elapsed();
    thread::sleep(SETTLE_TIME);
    let idle_rss_mib = server.usage()?.rss_kib as f64 / 1024.0;
    Ok(Row { kill, wal_bytes, ready_ms: ready.as_secs_f64() * 1000.0, idle_rss_mib })
}
