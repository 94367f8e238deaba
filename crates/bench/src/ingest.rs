//! Ingest with group commit, with one commit per request and without a store, in one run: the machine's own
//! speed cancels out of the ratios.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::BenchError;
use crate::child::Server;
use crate::fill;
use crate::load::{self, FULL_CONNECTIONS, Load, Outcome};
use crate::report;
use crate::sender::{Ids, Sender, Shape};
use crate::server::StoreKind;

/// Name of the row for the store of `--database`.
const FILLED: &str = "filled";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these scenarios
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scenario::value_variants().to_vec())]
    scenario: Vec<Scenario>,
    /// Only these stores
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = StoreKind::value_variants().to_vec())]
    store: Vec<StoreKind>,
    /// A filled database, too. What is ingested stays in it
    #[arg(long)]
    database: Option<PathBuf>,
    /// Seconds of each load
    #[arg(long, default_value = "3", value_parser = load::seconds)]
    seconds: Duration,
    /// Rounds; scenarios and stores take turns, and the median round counts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Folder of the empty databases: what is measured is its disk
    #[arg(long, default_value = "target")]
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// New ids at random, a usual body, 256 connections; the others differ from it by their name
    Unique,
    /// New ids, each after the one before
    Ordered,
    /// Every second message was sent a moment ago
    Duplicates,
    /// Bodies of 1 KiB
    #[value(name = "1-kib")]
    OneKib,
    /// Bodies of 16 KiB
    #[value(name = "16-kib")]
    SixteenKib,
    /// One connection
    #[value(name = "1-connection")]
    OneConnection,
    /// 16 connections
    #[value(name = "16-connections")]
    SixteenConnections,
    /// 128 connections
    #[value(name = "128-connections")]
    FewerConnections,
    /// 512 connections
    #[value(name = "512-connections")]
    MoreConnections,
    /// Requests at an even pace, half as many as the store has just taken
    Half,
}

impl Scenario {
    fn shape(self) -> Shape {
        let usual = Shape::default();
        match self {
            Self::Ordered => Shape { ids: Ids::Ordered, ..usual },
            Self::Duplicates => Shape { ids: Ids::Repeated, ..usual },
            Self::OneKib => Shape { body_bytes_min: 1 << 10, ..usual },
            Self::SixteenKib => Shape { body_bytes_min: 16 << 10, ..usual },
            _ => usual,
        }
    }

    fn connections(self) -> usize {
        match self {
            Self::OneConnection => 1,
            Self::SixteenConnections => 16,
            Self::FewerConnections => 128,
            Self::MoreConnections => 512,
            _ => FULL_CONNECTIONS,
        }
    }
}

/// Store that the messages go into.
#[derive(Clone, Copy)]
enum Target<'a> {
    Empty(StoreKind),
    Filled(&'a PathBuf),
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    scenario: String,
    store: String,
    requests_per_s: f64,
    /// Ratios to the other stores in this scenario.
    times: BTreeMap<String, f64>,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    cpu_us_per_request: f64,
    idle_rss_mib: f64,
    peak_rss_mib: f64,
    written_bytes_per_request: f64,
    refused: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    let empty = args.store.iter().copied().map(Target::Empty);
    let targets: Vec<Target<'_>> = empty.chain(args.database.as_ref().map(Target::Filled)).collect();
    let steps: Vec<(Scenario, Target<'_>)> =
        args.scenario.iter().flat_map(|s| targets.iter().map(|t| (*s, *t))).collect();

    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}")?;
    let bar = ProgressBar::new(args.rounds * steps.len() as u64).with_style(style);
    let mut rounds = vec![Vec::new(); steps.len()];
    for _ in 0..args.rounds {
        for ((scenario, target), rows) in steps.iter().zip(&mut rounds) {
            bar.set_message(format!("{}, {}", name(scenario), target.name()));
            rows.push(measure(*scenario, *target, args)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();

    let mut rows: Vec<Row> = rounds.into_iter().map(median).collect();
    for of_scenario in rows.chunks_mut(targets.len()) {
        let rates: Vec<(String, f64)> =
            of_scenario.iter().map(|row| (row.store.clone(), row.requests_per_s)).collect();
        for row in of_scenario {
            let others = rates.iter().filter(|(store, _)| *store != row.store);
            row.times = others.map(|(store, rate)| (store.clone(), row.requests_per_s / rate)).collect();
        }
    }
    println!("{:?} each, median of {} rounds", args.seconds, args.rounds);
    print(&rows)
}

fn print(rows: &[Row]) -> Result<(), BenchError> {
    Ok(report::print(
        &[
            ("scenario", |row: &Row| row.scenario.clone()),
            ("store", |row| row.store.clone()),
            ("requests/s", |row| format!("{:.0}", row.requests_per_s)),
            ("/ none", |row| report::optional(row.times.get("none"))),
            ("/ single", |row| report::optional(row.times.get("single"))),
            ("/ group", |row| report::optional(row.times.get("group"))),
            ("p50 ms", |row| format!("{:.2}", row.p50_ms)),
            ("p99 ms", |row| format!("{:.2}", row.p99_ms)),
            ("p99.9 ms", |row| format!("{:.2}", row.p999_ms)),
            ("CPU us", |row| format!("{:.1}", row.cpu_us_per_request)),
            ("idle MiB", |row| format!("{:.1}", row.idle_rss_mib)),
            ("peak MiB", |row| format!("{:.1}", row.peak_rss_mib)),
            ("bytes", |row| format!("{:.0}", row.written_bytes_per_request)),
            ("refused", |row| row.refused.to_string()),
        ],
        rows,
    )?)
}

fn median(mut rounds: Vec<Row>) -> Row {
    rounds.sort_by(|a, b| a.requests_per_s.total_cmp(&b.requests_per_s));
    rounds.swap_remove(rounds.len() / 2)
}

impl Target<'_> {
    fn name(self) -> String {
        match self {
            Self::Empty(store) => name(&store),
            Self::Filled(_) => FILLED.to_owned(),
        }
    }

    fn start(self, args: &Args) -> Result<Server, BenchError> {
        match self {
            Self::Empty(store) => Server::on_empty(store, &args.folder, Duration::ZERO),
            Self::Filled(database) => {
                fill::settle_database(database)?;
                Server::on(database)
            }
        }
    }
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}

fn measure(scenario: Scenario, target: Target<'_>, args: &Args) -> Result<Row, BenchError> {
    let server = target.start(args)?;
    let runtime = load::runtime()?;
    // There are two loads if one is to be at a pace.
    let sender = Sender::new(scenario.shape(), args.seconds * 2)?;
    let mut load = Load { connections: scenario.connections(), duration: args.seconds, rate_per_s: None };
    let post = |load: Load| -> Result<Outcome, BenchError> {
        runtime.block_on(load::run(server.addr, &sender, load))
    };
    if matches!(scenario, Scenario::Half) {
        load.rate_per_s = Some(post(load)?.accepted_per_s() / 2.0);
    }
    let before = server.usage()?;
    server.forget_peak()?;
    let outcome = post(load)?;
    let after = server.usage()?;
    let per_request = |n: f64| n / outcome.accepted() as f64;
    let mib = |kib: u64| kib as f64 / 1024.0;
    Ok(Row {
        scenario: name(&scenario),
        store: target.name(),
        requests_per_s: outcome.accepted_per_s(),
        times: BTreeMap::new(),
        p50_ms: outcome.latency_ms(0.5),
        p99_ms: outcome.latency_ms(0.99),
        p999_ms: outcome.latency_ms(0.999),
        cpu_us_per_request: per_request((after.cpu - before.cpu).as_secs_f64() * 1e6),
        idle_rss_mib: mib(before.rss_kib),
        peak_rss_mib: mib(after.peak_rss_kib),
        written_bytes_per_request: per_request((after.written_bytes - before.written_bytes) as f64),
        refused: outcome.n_refused(),
    })
}
