//! Requests per second with group commit, with one commit per request and without a store, in one
//! run: the machine's own speed cancels out of the ratios.

use std::error::Error;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::child::Server;
use crate::load::{self, Load, Sender};
use crate::server::StoreKind;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 128)]
    connections: usize,
    /// Seconds of load for each store in each round
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; the stores take turns, and the median round counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this store
    #[arg(long)]
    store: Option<StoreKind>,
    /// Folder of the databases: what is measured is its disk
    #[arg(long, default_value = "target")]
    folder: std::path::PathBuf,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    store: String,
    requests_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    refused: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let stores =
        args.store.map_or_else(|| vec![StoreKind::None, StoreKind::Group, StoreKind::Single], |s| vec![s]);
    let mut rounds: Vec<Vec<Row>> = vec![Vec::new(); stores.len()];
    for _ in 0..args.rounds {
        for (store, rows) in stores.iter().zip(&mut rounds) {
            rows.push(measure(*store, args)?);
        }
    }
    let median = |mut rows: Vec<Row>| {
        rows.sort_by(|a, b| a.requests_per_s.total_cmp(&b.requests_per_s));
        rows.swap_remove(rows.len() / 2)
    };
    let rows: Vec<Row> = rounds.into_iter().map(median).collect();

    println!("{} connections, {} s, median of {} rounds", args.connections, args.seconds, args.rounds);
    println!(
        "{:<8} {:>12} {:>9} {:>9} {:>9} {:>8}",
        "store", "requests/s", "p50 ms", "p99 ms", "max ms", "refused"
    );
    for row in &rows {
        let Row { store, requests_per_s, p50_ms, p99_ms, max_ms, refused } = row;
        println!("{store:<8} {requests_per_s:>12.0} {p50_ms:>9.2} {p99_ms:>9.2} {max_ms:>9.2} {refused:>8}");
    }
    if let [none, group, single] = &rows[..] {
        println!("group / none   = {:.2}", group.requests_per_s / none.requests_per_s);
        println!("group / single = {:.1}", group.requests_per_s / single.requests_per_s);
    }
    println!("{}", serde_json::to_string(&rows)?);
    Ok(())
}

fn measure(store: StoreKind, args: &Args) -> Result<Row, Box<dyn Error>> {
    let server = Server::start(store, &args.folder, Duration::ZERO)?;
    let duration = Duration::from_secs(args.seconds);
    let load = Load { connections: args.connections, duration, rate_per_s: None };
    let run = async { load::run(server.addr, &Sender::new()?, load).await };
    let outcome = load::runtime()?.block_on(run).map_err(|e| e.to_string())?;
    Ok(Row {
        store: store.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned()),
        requests_per_s: outcome.accepted_per_s(),
        p50_ms: outcome.latency_ms(0.5),
        p99_ms: outcome.latency_ms(0.99),
        max_ms: outcome.latency_ms(1.0),
        refused: outcome.n_refused(),
    })
}
