//! Half of a store expires under full ingest: what that costs those who wait for an answer, how long it takes,
//! and whether what is gone is still known as a duplicate.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use adapters::signature::XSignature;
use serde::Serialize;

use crate::BenchError;
use crate::child::Server;
use crate::client::Client;
use crate::fill::{self, Contents};
use crate::load::{self, Load, Outcome};
use crate::messages::Message;
use crate::report;
use crate::sender::{Sender, Shape};
use crate::server::SECRET;

/// The messages come in over so many days, and are kept for half of them.
const DAYS: u32 = 2;

/// A purge that takes longer than that never ends.
const PURGE_TIME_MAX: Duration = Duration::from_secs(600);

/// Time between two looks at whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of messages; half of them expire
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(2..))]
    messages: u64,
    /// Seconds of load before anything expires
    #[arg(long, default_value = "10", value_parser = load::seconds)]
    seconds: Duration,
    /// Folder of the database: what is measured is its disk
    #[arg(long, default_value = "target")]
    folder: PathBuf,
}

#[derive(Debug, Serialize)]
struct Row {
    phase: &'static str,
    seconds: f64,
    requests_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    refused: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    let folder = tempfile::tempdir_in(&args.folder)?;
    let database = folder.path().join("bench.db");
    let contents = Contents { messages: args.messages, days: DAYS, seed: 1 };
    fill::fill(&database, contents)?;
    let n_expired = args.messages / 2;
    let expired = contents.messages().nth(usize::try_from(n_expired)? - 1).ok_or("half of two is one")?;

    let sender = Sender::new(Shape::default(), Load::FULL.duration)?;
    let server = Server::on(&database)?;
    let usual = ingest(&server, &sender, || {
        thread::sleep(args.seconds);
        Ok(())
    })?;
    drop(server);
    let server = Server::expiring(&database, n_expired)?;
    let client = Client::new(server.addr);
    let purging = ingest(&server, &sender, || wait_until_purged(&client, &expired))?;
    print(&[Row::new("nothing expires", &usual), Row::new("half expires", &purging)])?;
    println!("purged {n_expired} messages, {:.0}/s", n_expired as f64 / purging.took.as_secs_f64());

    let total = client.json("/stats")?["total_messages"].as_u64();
    if total != Some(args.messages - n_expired + usual.accepted() + purging.accepted()) {
        return Err(format!("/stats is wrong after it: {total:?} messages").into());
    }
    let body = serde_json::to_vec(&expired)?;
    let result = client.post(&XSignature::new(SECRET.as_bytes())?.sign(&body), &body)?;
    if result.as_deref() != Some("duplicate") || is_listed(&client, &expired)? {
        return Err(format!("a purged message that is sent again is {result:?}").into());
    }
    println!("a purged message that is sent again is a duplicate");
    Ok(())
}

impl Row {
    fn new(phase: &'static str, outcome: &Outcome) -> Self {
        Self {
            phase,
            seconds: outcome.took.as_secs_f64(),
            requests_per_s: outcome.accepted_per_s(),
            p50_ms: outcome.latency_ms(0.5),
            p99_ms: outcome.latency_ms(0.99),
            p999_ms: outcome.latency_ms(0.999),
            refused: outcome.n_refused(),
        }
    }
}

fn print(rows: &[Row; 2]) -> serde_json::Result<()> {
    report::print(
        &[
            ("phase", |row: &Row| row.phase.to_owned()),
            ("seconds", |row| format!("{:.1}", row.seconds)),
            ("requests/s", |row| format!("{:.0}", row.requests_per_s)),
            ("p50 ms", |row| format!("{:.2}", row.p50_ms)),
            ("p99 ms", |row| format!("{:.2}", row.p99_ms)),
            ("p99.9 ms", |row| format!("{:.2}", row.p999_ms)),
            ("refused", |row| row.refused.to_string()),
        ],
        rows,
    )?;
    println!("p99 / nothing expires = {:.2}", rows[1].p99_ms / rows[0].p99_ms);
    Ok(())
}

/// Posts as fast as it is answered until this has ended.
fn ingest(
    server: &Server,
    sender: &Arc<Sender>,
    until: impl FnOnce() -> Result<(), BenchError>,
) -> Result<Outcome, BenchError> {
    let runtime = load::runtime()?;
    let running = runtime.block_on(load::start(server.addr, sender, Load::FULL))?;
    until()?;
    runtime.block_on(running.stop())
}

/// Messages expire in order of arrival: when the last one is gone, all are.
fn wait_until_purged(client: &Client, last: &Message) -> Result<(), BenchError> {
    let started = Instant::now();
    while is_listed(client, last)? {
        if started.elapsed() > PURGE_TIME_MAX {
            return Err("what has expired is not purged".into());
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Of its second there are fewer messages than a page has.
fn is_listed(client: &Client, message: &Message) -> Result<bool, BenchError> {
    let page = client.json(&format!("/messages?limit=100&since={}", message.ts))?;
    let messages = page["data"].as_array().ok_or("a page")?;
    Ok(messages.iter().any(|listed| listed["message_id"] == message.message_id.as_str()))
}
