//! `hookkeeper selftest`: tests by kills that this machine and this disk keep what was acknowledged.

mod audit;
mod expected;
mod instance;
mod plan;
mod report;
mod sender;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use adapters::signature::XSignature;
use indicatif::{ProgressBar, ProgressStyle};
use ureq::Agent;
use uuid::Uuid;

use self::audit::Client;
use self::expected::{Expected, Findings};
use self::instance::{Instance, Settings};
use self::plan::{Kill, Plan, SENDERS};
use self::report::Report;
use self::sender::{Counts, Life, Sender};
use super::{Error, client};

/// Folder that the run creates in the operator's folder, and removes again.
const FOLDER: &str = "hookkeeper-selftest";

/// Most kills of a run: what the senders expect then takes some ten megabytes.
const KILLS_MAX: i64 = 10_000;

/// Between two acknowledged messages under load: a commit takes half of it at the very most.
const ACKNOWLEDGE_TIME_MAX: Duration = Duration::from_secs(30);

/// Acknowledgements that may wait to be counted.
const ACKNOWLEDGED_MAX: usize = 1024;

/// Kill a private instance under load, again and again, and check that nothing is lost: exit code 0 if
/// every promise was kept, else 1.
///
/// Starts an instance on a database of its own in FOLDER, which tests the disk that FOLDER is on. Sixteen senders
/// send signed messages. They repeat some of them, hang up before some answers, forge some signatures and break
/// some payloads. The instance is killed (SIGKILL) at random moments, while it serves and while it starts, and
/// started again. At the end every message that was answered 200 must be stored once, as it was first accepted.
/// Messages without an answer may be stored; no other message may be.
///
/// Only FOLDER/hookkeeper-selftest is written. It must not exist before. It is removed at the end, but kept if a
/// promise was broken or the test was interrupted.
#[derive(clap::Args)]
pub struct Args {
    /// A folder on the disk to test
    folder: PathBuf,
    /// Number of kills, 1 to 10000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=KILLS_MAX))]
    kills: u16,
    /// Stop killing after this many seconds even if --kills is not reached [default: no limit]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Repeat a run: the same requests in the same order, killed after the same number of answers (the messages under
    /// way at a kill may differ) [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// # Errors
/// A promise was broken, or the test can't be done.
pub fn run(args: &Args) -> Result<(), Error> {
    let plan = Plan { seed: args.seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0) };
    let folder = args.folder.join(FOLDER);
    fs::create_dir(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
    if !args.json {
        let seed = plan.seed;
        super::print(&format_args!("seed {seed}, {SENDERS} senders, database in {}", folder.display()))?;
    }

    let settings = Settings { folder, secret: Uuid::new_v4().to_string() };
    let kept = |why: &dyn fmt::Display| Error::Failed(format!("{why}; see {}", settings.folder.display()));
    let report = test(args, plan, &settings).map_err(|error| kept(&error))?;
    if args.json {
        super::print(&report.json(plan.seed))?;
    } else {
        super::print(&report)?;
    }
    if !report.findings.is_empty() {
        return Err(kept(&"a promise was broken"));
    }
    let removed = fs::remove_dir_all(&settings.folder);
    removed.map_err(Error::io(format!("remove {}", settings.folder.display())))
}

fn test(args: &Args, plan: Plan, settings: &Settings) -> Result<Report, Error> {
    let signer = XSignature::new(settings.secret.as_bytes())?;
    let mut senders: Vec<Sender<'_>> = (0..SENDERS).map(|n| Sender::new(plan, n, &signer)).collect();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} kills, {eta} left");
    let bar = ProgressBar::new(args.kills.into()).with_style(style.expect("the template is valid"));
    let started = Instant::now();
    let mut starts = Vec::new();
    let mut kills = 0;
    for kill in plan.kills().take(args.kills.into()) {
        starts.extend(live_and_die(kill, settings, &mut senders)?);
        kills += 1;
        bar.inc(1);
        if args.seconds.is_some_and(|secs| started.elapsed() >= Duration::from_secs(secs)) {
            break;
        }
    }
    bar.finish_and_clear();
    let took = started.elapsed();

    let mut counts = Counts::default();
    let mut findings = Findings::default();
    let mut expected = Vec::new();
    for sender in senders {
        counts += sender.counts;
        findings.add(sender.findings);
        expected.push(sender.expected);
    }
    let stored = audit(plan, settings, &mut expected, &mut findings)?;
    let unknown =
        expected.iter().map(Expected::unknown).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    starts.sort_unstable();
    Ok(Report { kills, took, starts, counts, stored, unknown, findings })
}

/// One instance from its start to its kill; returns how long it took to be ready, if it lived so long.
fn live_and_die(
    kill: Kill,
    settings: &Settings,
    senders: &mut [Sender<'_>],
) -> Result<Option<Duration>, Error> {
    let mut instance = Instance::spawn(settings)?;
    let (n_acknowledged, after) = match kill {
        Kill::Starting { after } => {
            thread::sleep(after);
            return instance.kill().map(|()| None);
        }
        Kill::Serving { acknowledged, after } => (acknowledged, after),
    };
    let agent = agent();
    let (addr, took) = instance.wait_until_ready(&agent)?;
    let (send, acknowledged) = mpsc::sync_channel(ACKNOWLEDGED_MAX);
    let is_killed = AtomicBool::new(false);
    let life = Life { addr, agent, acknowledged: send, is_killed: &is_killed };
    thread::scope(|scope| {
        for sender in senders {
            let life = life.clone();
            scope.spawn(move || sender.send_until_cut_off(&life));
        }
        // What is left of it is with the senders: when all of them have ended, that is noticed.
        drop(life);
        let counted = (0..n_acknowledged).try_for_each(|_| acknowledged.recv_timeout(ACKNOWLEDGE_TIME_MAX));
        // Lets the senders go on uncounted.
        drop(acknowledged);
        thread::sleep(after);
        is_killed.store(true, Ordering::SeqCst);
        instance.kill()?;
        counted.map_err(|_| {
            Error::Failed(format!("an instance acknowledged fewer than {n_acknowledged} messages"))
        })
    })?;
    Ok(Some(took))
}

/// After the last kill: starts an instance without load, looks at everything, and stops it.
fn audit(
    plan: Plan,
    settings: &Settings,
    expected: &mut [Expected],
    findings: &mut Findings,
) -> Result<u64, Error> {
    let agent = agent();
    let mut instance = Instance::spawn(settings)?;
    let (addr, _) = instance.wait_until_ready(&agent)?;
    let client = Client { agent: &agent, addr };
    let listed = client.meet_all(plan, expected, findings)?;
    client.check_stats(&listed, findings)?;
    instance.stop()?;
    audit::check_database(&settings.database(), &listed, findings)?;
    Ok(listed.values().sum())
}

/// Returns a client for one instance, which is on this machine.
fn agent() -> Agent {
    client::config(SENDERS.into()).proxy(None).build().new_agent()
}
