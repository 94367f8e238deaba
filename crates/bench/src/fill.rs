//! Fills a store with realistic messages, through the store's own code and without HTTP: ten million are a
//! matter of minutes.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use adapters::digest::sha256;
use adapters::sqlite::{BATCH_MESSAGES_MAX, SqliteOptions, SqliteStore};
use bytes::Bytes;
use domain::message::NewMessage;
use domain::payload;
use domain::signature::Verified;
use domain::source::SourceName;
use domain::store::{Appended, MessageStore, StoreError};
use domain::usage::StoreUsage;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use crate::BenchError;
use crate::messages::{Message, Messages, Traffic};

/// Deliveries that wait, made or appended: the store is never without one, and they are some megabytes.
const DELIVERIES_WAITING: usize = 8;

/// Messages that a sender has on average.
const MESSAGES_PER_SENDER: u64 = 100;

/// Time between two looks at the progress of the text index.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The database, made if it is not there
    #[arg(long)]
    database: PathBuf,
    #[command(flatten)]
    contents: Contents,
}

/// Contents of a filled store.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Contents {
    /// Number of messages
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: u64,
    /// Days over which they came in, from 2025-01-01 on
    #[arg(long, default_value_t = 30)]
    pub(crate) days: u32,
    /// Seed of the randomness; the same gives the same messages
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl Contents {
    pub(crate) fn messages(self) -> impl Iterator<Item = Message> {
        let distance_s = f64::from(self.days) * 24.0 * 3600.0 / self.messages as f64;
        let traffic = Traffic {
            senders: self.messages.div_ceil(MESSAGES_PER_SENDER),
            distance: Duration::from_secs_f64(distance_s),
        };
        (0..self.messages).zip(Messages::new(self.seed, traffic)).map(|(_, message)| message)
    }
}

pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    let started = Instant::now();
    let n_stored = fill(&args.database, args.contents)?;
    let took = started.elapsed().as_secs_f64();
    let n_messages = args.contents.messages;
    println!("{n_stored} messages stored, {} were there before", n_messages - n_stored);
    println!("{took:.1} s, {:.0} messages/s", n_messages as f64 / took);
    for (name, bytes) in files(&args.database)? {
        println!("{name}: {bytes} bytes, {:.0} a message", bytes as f64 / n_messages as f64);
    }
    Ok(())
}

/// Stores the messages, waits until their texts are indexed, and closes the store; returns how many were new.
pub(crate) fn fill(database: &Path, contents: Contents) -> Result<u64, BenchError> {
    let (send, deliveries) = mpsc::channel(DELIVERIES_WAITING);
    // It ends when nobody receives any more.
    let maker = thread::spawn(move || {
        let mut messages = contents.messages().map(|message| new_message(&message));
        loop {
            let delivery: Vec<NewMessage> = messages.by_ref().take(BATCH_MESSAGES_MAX).collect();
            if delivery.is_empty() || send.blocking_send(delivery).is_err() {
                return;
            }
        }
    });
    let n_stored = runtime()?.block_on(append(database, contents, deliveries))?;
    maker.join().map_err(|_| "what makes the messages has panicked")?;
    Ok(n_stored)
}

async fn append(
    database: &Path,
    contents: Contents,
    mut deliveries: Receiver<Vec<NewMessage>>,
) -> Result<u64, BenchError> {
    let store = Arc::new(open(database)?);
    let bar = progress("messages", contents.messages);
    let mut under_way: VecDeque<JoinHandle<Result<Vec<Appended>, StoreError>>> = VecDeque::new();
    let mut n_stored = 0;
    loop {
        let delivery = deliveries.recv().await;
        let n_waiting_max = if delivery.is_some() { DELIVERIES_WAITING } else { 0 };
        if let Some(delivery) = delivery {
            let store = Arc::clone(&store);
            under_way.push_back(tokio::spawn(async move { store.append(delivery).await }));
        }
        while under_way.len() > n_waiting_max
            && let Some(append) = under_way.pop_front()
        {
            let appended = append.await??;
            n_stored += appended.iter().filter(|a| matches!(a, Appended::Stored(_))).count();
            bar.inc(appended.len() as u64);
        }
        if n_waiting_max == 0 {
            break;
        }
    }
    bar.finish_and_clear();

    settle(&store).await?;
    Ok(n_stored as u64)
}

/// Completes the text index and closes the store, which a killed server has not done: what is measured next
/// is not to be held up by that.
pub(crate) fn settle_database(database: &Path) -> Result<(), BenchError> {
    runtime()?.block_on(async { settle(&open(database)?).await })
}

/// One thread, so that deliveries are appended in the order in which they are spawned.
fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

fn open(database: &Path) -> Result<SqliteStore, BenchError> {
    Ok(SqliteStore::open(SqliteOptions {
        path: database.to_owned(),
        batch_messages_max: BATCH_MESSAGES_MAX,
        on_commit: Box::new(|_| {}),
        on_event: Arc::new(|_| {}),
    })?)
}

async fn settle(store: &SqliteStore) -> Result<(), BenchError> {
    let n_unindexed = store.unindexed_texts().await?;
    let bar = progress("texts to be indexed", n_unindexed);
    loop {
        let left = store.unindexed_texts().await?;
        bar.set_position(n_unindexed.saturating_sub(left));
        if left == 0 {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bar.finish_and_clear();
    store.close().await;
    Ok(())
}

fn progress(what: &'static str, n: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {per_sec} {eta} left");
    ProgressBar::new(n).with_style(style.expect("the template is valid")).with_message(what)
}

/// As if it had come in by HTTP.
fn new_message(message: &Message) -> NewMessage {
    let body = Bytes::from(serde_json::to_vec(message).expect("it has only texts"));
    NewMessage {
        source: SourceName::default(),
        content: payload::decode(&body).expect("made messages are valid: a test says so"),
        verified: Verified { body_digest: sha256(&body) },
        body,
        received_at: message.received_at,
    }
}

/// The files of a database, and their sizes.
fn files(database: &Path) -> io::Result<Vec<(String, u64)>> {
    let name = database.file_name().unwrap_or_default().to_string_lossy();
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.starts_with(&*name) {
            files.push((file, entry.metadata()?.len()));
        }
    }
    files.sort();
    Ok(files)
}
