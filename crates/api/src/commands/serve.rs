//! `hookkeeper serve`: receives until it is told to stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use adapters::clock::SystemClock;
use adapters::signature::XSignature;
use adapters::sqlite::{BATCH_MESSAGES_MAX, SqliteOptions, SqliteStore};
use domain::ingest::Ingest;
use domain::signature::SignatureVerifier;
use domain::source::{Source, SourceName};
use secrecy::ExposeSecret;
use slog::Logger;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::Error;
use crate::app::{self, App};
use crate::config::{BindArgs, ConfigError, DatabaseArgs, LimitArgs, LogArgs, Secret, SecretArgs};
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;

/// From a signal to the end of the process, whatever is stuck.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Serve: receive webhooks, answer queries (also the default).
///
/// Makes the database if it is not there, brings its schema up to date, listens, and logs one JSON
/// object a line to standard output. SIGTERM or SIGINT: finishes what was accepted and ends with 0.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    bind: BindArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    limit: LimitArgs,
}

struct Config {
    database_path: std::path::PathBuf,
    secret: Option<Secret>,
    bind_addr: std::net::SocketAddr,
    log_level: slog::Level,
    body_bytes_max: usize,
}

impl Config {
    fn read(args: &Args) -> Result<Self, ConfigError> {
        let mut mistakes = ConfigError::default();
        let database_path = mistakes.database_path(&args.database);
        let secret = mistakes.webhook_secret(&args.secret);
        let bind_addr = mistakes.bind_addr(&args.bind);
        let log_level = mistakes.log_level(&args.log);
        let body_bytes_max = mistakes.body_bytes_max(&args.limit);
        let parsed = (|| {
            Some(Self {
                database_path: database_path?,
                secret,
                bind_addr: bind_addr?,
                log_level: log_level?,
                body_bytes_max: body_bytes_max?,
            })
        })();
        mistakes.unless_mistaken(parsed)
    }
}

/// # Errors
/// It can't start, or could not end in time.
pub fn run(args: &Args) -> Result<(), Error> {
    let config = Config::read(args)?;
    let (log, guard) = log::start(config.log_level, io::stdout()).map_err(Error::io("start the log"))?;
    let result = actix_web::rt::System::new().block_on(serve(config, &log));
    if let Err(error) = &result {
        slog::error!(log, "failed"; "error" => %error);
    }
    drop(guard);
    result
}

async fn serve(config: Config, log: &Logger) -> Result<(), Error> {
    // Before anything else, so that a signal during the start is not lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::io("wait for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::io("wait for SIGINT"))?;

    let bind_error = |source| Error::Bind { addr: config.bind_addr, source };
    let listener = app::bind(config.bind_addr).map_err(bind_error)?;
    let addr = listener.local_addr().map_err(bind_error)?;

    let metrics = Metrics::new().expect("every metric has a valid name of its own");
    let store = {
        let metrics = metrics.clone();
        Arc::new(SqliteStore::open(SqliteOptions {
            path: config.database_path.clone(),
            batch_messages_max: BATCH_MESSAGES_MAX,
            on_commit: Box::new(move |report| metrics.committed(report)),
        })?)
    };
    metrics.watch(Arc::clone(&store)).expect("one store is watched");
    if config.secret.is_none() {
        slog::warn!(log, "WEBHOOK_SECRET is not set: webhooks are answered 503 until it is");
    }
    let source = default_source(config.secret.as_ref());
    let app = App {
        ingest: Ingest::new(source, Arc::clone(&store) as _, Arc::new(SystemClock)),
        query: Arc::clone(&store) as _,
        log: log.clone(),
        metrics,
        body_bytes_max: config.body_bytes_max,
    };
    let server = app::serve(app, listener).map_err(bind_error)?;
    let handle = server.handle();
    let serving = actix_web::rt::spawn(server);
    slog::info!(log, "listening"; "addr" => %addr, "version" => crate::VERSION,
        "database" => %config.database_path.display());

    let received = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    slog::info!(log, "stopping"; "signal" => received);
    let stop = async {
        handle.stop(true).await;
        // The server's own result only repeats that it was stopped.
        let _ = serving.await;
        store.close().await;
    };
    if timeout(STOP_TIME_MAX, stop).await.is_err() {
        let secs = STOP_TIME_MAX.as_secs();
        return Err(Error::No(format!("did not stop within {secs} s; what was answered 200 is on disk")));
    }
    slog::info!(log, "stopped");
    Ok(())
}

/// The source of `POST /webhook`; without a secret it verifies, and so receives, nothing.
fn default_source(secret: Option<&Secret>) -> Source {
    let verifier = secret.and_then(|secret| XSignature::new(secret.expose_secret()).ok());
    Source {
        name: SourceName::default(),
        verifier: verifier.map(|v| Arc::new(v) as Arc<dyn SignatureVerifier>),
    }
}
