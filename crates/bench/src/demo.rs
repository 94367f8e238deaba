//! `make demo`: a thousand messages in, and what the service then says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::BenchError;
use crate::client::Client;
use crate::messages::{Message, Messages, Traffic};

const SEED: u64 = 1;
const N_MESSAGES: usize = 1000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The binary to start, and to send with
    #[arg(long, default_value = "target/release/hookkeeper")]
    hookkeeper: PathBuf,
    /// Where the service is, or is to be
    #[arg(long, default_value = "127.0.0.1:8000")]
    addr: String,
    /// Where the messages are written
    #[arg(long, default_value = "data/demo.jsonl")]
    file: PathBuf,
}

/// A service that we started; it is stopped with us.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // Every answer is on disk: killing it loses nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    let messages: Vec<Message> = Messages::new(SEED, Traffic::default()).take(N_MESSAGES).collect();
    let lines: Vec<String> = messages.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    if let Some(folder) = args.file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&args.file, lines.join("\n") + "\n")?;
    println!("{N_MESSAGES} messages (seed {SEED}) are in {}", args.file.display());

    let client = Client::new(&args.addr);
    let _service = if client.get("/health/live").is_ok() {
        println!("the service at {} is running", args.addr);
        None
    } else {
        println!("starting the service at {}", args.addr);
        Some(start(&args.hookkeeper, &args.addr)?)
    };
    client.get("/health/ready")?;
    let before = client.json("/stats")?["total_messages"].as_u64();

    let url = format!("http://{}/webhook", args.addr);
    let sent = Command::new(&args.hookkeeper).args(["send", "--url", &url]).arg(&args.file).status()?;
    if !sent.success() {
        return Err("messages were refused: see above".into());
    }
    let stats = client.json("/stats")?;
    println!("GET /stats\n{stats:#}");
    println!("GET /messages?q=école&limit=2\n{:#}", client.json("/messages?q=%C3%A9cole&limit=2")?);

    if stats["total_messages"] == N_MESSAGES {
        let want = stats_of(&messages);
        if stats != want {
            return Err(format!("/stats does not agree with the file: {want:#}").into());
        }
        println!("/stats agrees with the file");
    } else {
        println!(
            "note: {} messages were already stored, so /stats includes them as well",
            before.unwrap_or(0)
        );
    }
    Ok(())
}

/// Starts the service and waits until it listens.
fn start(hookkeeper: &Path, addr: &str) -> Result<Service, BenchError> {
    let mut child = Command::new(hookkeeper)
        .args(["serve", "--bind-addr", addr, "--log-level", "info"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", hookkeeper.display()))?;
    let stdout = child.stdout.take().ok_or("it has no standard output")?;
    let service = Service(child);
    let mut lines = BufReader::new(stdout).lines();
    for line in lines.by_ref() {
        if line?.contains("\"listening\"") {
            // Its log has to be read on, or it would wait for it.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(service);
        }
    }
    Err("the service did not start".into())
}

/// Returns the `/stats` of exactly these messages.
fn stats_of(messages: &[Message]) -> Value {
    let mut per_sender: BTreeMap<&str, u64> = BTreeMap::new();
    for message in messages {
        *per_sender.entry(&message.from).or_default() += 1;
    }
    let mut top: Vec<(&str, u64)> = per_sender.iter().map(|(sender, n)| (*sender, *n)).collect();
    top.sort_by_key(|(sender, n)| (std::cmp::Reverse(*n), *sender));
    let top: Vec<Value> =
        top.iter().take(10).map(|(from, count)| json!({"from": from, "count": count})).collect();
    let times: BTreeSet<_> = messages
        .iter()
        .map(|m| (domain::time::ExactTime::parse_utc(&m.ts).ok(), &m.message_id, &m.ts))
        .collect();
    json!({
        "total_messages": messages.len(),
        "senders_count": per_sender.len(),
        "messages_per_sender": top,
        "first_message_ts": times.first().map(|t| t.2),
        "last_message_ts": times.last().map(|t| t.2),
    })
}
