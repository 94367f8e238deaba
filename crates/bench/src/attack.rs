//! One client attacks, another sends: the other must not notice much, and the server must stay within the memory that
//! the unit and the compose file give it.
//!
//! Attacker, sender and server share this machine's cores. An attacker of one's own has cores of its own; so this one
//! runs as nicely as it can, and takes what the others leave.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::BenchError;
use crate::attacker::Attack;
use crate::fill::{self, Contents};
use crate::honest;
use crate::load;
use crate::report;
use crate::sender::{Sender, Shape};
use crate::target::Target;

/// Of the honest sender's webhooks.
const ACCEPTED_PERCENT_MIN: f64 = 98.0;

/// Most times that the 99th percentile of its answers is longer than in peace.
const P99_TIMES_MAX: f64 = 10.0;

/// A peace quicker than this is measured as this: what a core does in turns for three processes takes as long.
const P99_PEACE_MIN_MS: f64 = 5.0;

/// Memory that deploy/hookkeeper.service and deploy/docker-compose.yml allow.
const RSS_MAX_MIB: f64 = 1024.0;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which ones, with commas between; all if it is left out
    #[arg(long, value_delimiter = ',')]
    attack: Vec<Attack>,
    /// Seconds of peace, and of each attack
    #[arg(long, default_value = "15", value_parser = load::seconds)]
    seconds: Duration,
    /// Messages in the store that questions are asked of
    #[arg(long, default_value_t = 300_000)]
    messages: u64,
    /// Folder of the databases
    #[arg(long, default_value = "target")]
    folder: PathBuf,
    /// Say what was measured, and exit with 0 whatever it is
    #[arg(long)]
    only_measure: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    attack: String,
    sent: u64,
    accepted_percent: f64,
    peace_p99_ms: f64,
    p99_ms: f64,
    p99_times: f64,
    peak_rss_mib: f64,
    log_mib: f64,
}

/// # Errors
/// Something is not held.
pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    let attacks = if args.attack.is_empty() { Attack::value_variants() } else { &args.attack };
    let rows: Vec<Row> = attacks.iter().map(|attack| measure(*attack, args)).collect::<Result<_, _>>()?;
    report::print(
        &[
            ("attack", |row: &Row| row.attack.clone()),
            ("sent", |row| row.sent.to_string()),
            ("200 %", |row| format!("{:.2}", row.accepted_percent)),
            ("peace p99 ms", |row| format!("{:.1}", row.peace_p99_ms)),
            ("p99 ms", |row| format!("{:.1}", row.p99_ms)),
            ("times", |row| format!("{:.1}", row.p99_times)),
            ("peak RSS MiB", |row| format!("{:.0}", row.peak_rss_mib)),
            ("log MiB", |row| format!("{:.1}", row.log_mib)),
        ],
        &rows,
    )?;
    let failed: Vec<_> = rows.iter().filter(|row| !row.is_held()).map(|row| row.attack.as_str()).collect();
    if failed.is_empty() || args.only_measure {
        return Ok(());
    }
    Err(format!(
        "not held under {}: {ACCEPTED_PERCENT_MIN} % answered 200, p99 {P99_TIMES_MAX} times that of peace, {RSS_MAX_MIB} MiB",
        failed.join(", ")
    )
    .into())
}

impl Row {
    fn is_held(&self) -> bool {
        self.accepted_percent >= ACCEPTED_PERCENT_MIN
            && self.p99_times <= P99_TIMES_MAX
            && self.peak_rss_mib <= RSS_MAX_MIB
    }
}

fn measure(attack: Attack, args: &Args) -> Result<Row, BenchError> {
    let folder = tempfile::tempdir_in(&args.folder)?;
    if attack == Attack::Questions {
        fill::fill(&folder.path().join("app.db"), Contents { messages: args.messages, days: 30, seed: 1 })?;
    }
    let target = Target::start(&folder, attack == Attack::Handshakes)?;
    let sender = Sender::new(Shape::default(), Duration::ZERO)?;
    let runtime = load::runtime()?;
    // The first answers open what later ones find open.
    runtime.block_on(honest::send(&target, &sender, args.seconds / 10))?;
    let peace = runtime.block_on(honest::send(&target, &sender, args.seconds))?;
    let log_bytes = target.log_bytes();
    let attacker = Attacker::start(attack, &target, args.seconds * 2)?;
    // It takes a while until it holds what it can.
    runtime.block_on(honest::send(&target, &sender, args.seconds / 2))?;
    let attacked = runtime.block_on(honest::send(&target, &sender, args.seconds))?;
    drop(attacker);
    let name = attack.to_possible_value().ok_or("an attack has a name")?;
    Ok(Row {
        attack: name.get_name().to_owned(),
        sent: attacked.n_sent,
        accepted_percent: attacked.accepted_percent(),
        peace_p99_ms: peace.p99_ms(),
        p99_ms: attacked.p99_ms(),
        p99_times: attacked.p99_ms() / peace.p99_ms().max(P99_PEACE_MIN_MS),
        peak_rss_mib: target.peak_rss_mib()?,
        log_mib: (target.log_bytes() - log_bytes) as f64 / f64::from(1 << 20),
    })
}

/// The attacker's process; it ends with this.
struct Attacker(Child);

impl Attacker {
    fn start(attack: Attack, target: &Target, lasting: Duration) -> Result<Self, BenchError> {
        let name = attack.to_possible_value().ok_or("an attack has a name")?;
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe()?).args([
            "attacker",
            "--attack",
            name.get_name(),
        ]);
        command.args(["--addr", &target.addr.to_string(), "--seconds", &lasting.as_secs_f64().to_string()]);
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
