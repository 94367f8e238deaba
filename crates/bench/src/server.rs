//! Server under measurement: the real one, on one of three stores.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use adapters::sqlite::{BATCH_MESSAGES_MAX, Expiry, SqliteOptions, SqliteStore};
use api::compose::{self, AppSettings};
use api::server::{self, ConnectionLimits, Traffic};
use api::telemetry::log;
use api::telemetry::metrics::Metrics;
use api::transport::{open_files, tcp};
use async_trait::async_trait;
use domain::message::NewMessage;
use domain::query::{Filter, Listing, MessageQuery, Page, Stats};
use domain::store::{Appended, MessageStore, Seq, StoreError};

use crate::BenchError;

pub(crate) const SECRET: &str = "benchsecret";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StoreKind {
    /// As in the product: one commit for all waiting messages
    Group,
    /// One commit per request
    Single,
    /// No store: the cost of HTTP, signature, validation, log and metrics alone
    None,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    store: StoreKind,
    #[arg(long)]
    database: PathBuf,
    /// Milliseconds added to each commit
    #[arg(long, default_value_t = 0)]
    flush_extra_ms: u64,
    /// At the start, begin to remove the messages up to this place in the order of arrival
    #[arg(long)]
    messages_to: Option<i64>,
}

/// Store that answers as if it stored, but keeps nothing.
#[derive(Default)]
struct NoStore {
    n_messages: AtomicI64,
}

#[async_trait]
impl MessageStore for NoStore {
    async fn append(&self, messages: Vec<NewMessage>) -> Result<Vec<Appended>, StoreError> {
        let stored = |_| Appended::Stored(Seq(self.n_messages.fetch_add(1, Ordering::Relaxed)));
        Ok(messages.iter().map(stored).collect())
    }
}

#[async_trait]
impl MessageQuery for NoStore {
    async fn list(&self, _: &Filter, _: &Page) -> Result<Listing, StoreError> {
        Ok(Listing { messages: vec![], total: 0, next: None })
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        Ok(Stats::default())
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Serves on a free port and prints the address, until it is killed.
pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    let metrics = Metrics::new()?;
    let (log, _guard) = log::start(slog::Level::Info, io::sink(), metrics.log_lines_lost())?;
    actix_web::rt::System::new().block_on(async {
        let settings = AppSettings {
            webhook_secret: Some(SECRET.as_bytes().to_vec().into()),
            api_token: None,
            trusted_proxies: vec![],
            allowed_hosts: vec![],
            body_bytes_max: 1 << 20,
        };
        let app = match args.store {
            StoreKind::None => compose::app(settings, Arc::new(NoStore::default()), log, metrics),
            kind => {
                let of_commits = metrics.clone();
                let flush_extra = Duration::from_millis(args.flush_extra_ms);
                let store = Arc::new(SqliteStore::open(SqliteOptions {
                    path: args.database.clone(),
                    batch_messages_max: if kind == StoreKind::Single { 1 } else { BATCH_MESSAGES_MAX },
                    on_commit: Box::new(move |report| {
                        // Answers wait for this as they wait for the disk.
                        thread::sleep(flush_extra);
                        of_commits.committed(report);
                    }),
                    on_event: Arc::new(|_| {}),
                })?);
                if let Some(messages_to) = args.messages_to {
                    store.expire_to(Expiry { messages_to: Seq(messages_to), keys_to: None }).await?;
                }
                compose::app(settings, store, log, metrics)
            }
        };
        let listener = tcp::bind(([127, 0, 0, 1], 0).into())?;
        println!("{}", listener.local_addr()?);
        let all_max = open_files::connections_max();
        let limits = ConnectionLimits { all_max, client_max: all_max };
        server::serve(app, listener, Traffic::All, None, limits)?.await?;
        Ok(())
    })
}
