//! `hookkeeper serve`: receives until it is told to stop.

use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::web::Data;
use adapters::clock::SystemClock;
use adapters::signature::XSignature;
use adapters::sqlite::{BATCH_MESSAGES_MAX, SqliteOptions, SqliteStore};
use domain::event::StoreEvent;
use domain::ingest::Ingest;
use domain::query::MessageQuery;
use domain::signature::SignatureVerifier;
use domain::source::Source;
use sd_notify::NotifyState;
use secrecy::ExposeSecret;
use slog::Logger;

use super::Error;
use crate::access::refusals::Door;
use crate::config::secret;
use crate::config::{Config, Secret, ServeArgs};
use crate::limits::queries::Questions;
use crate::server::{self as app, App, Budgets, ConnectionLimits, Traffic};
use crate::signals::{self, Signal, Signals};
use crate::telemetry::log::{self, LogGuard};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::stdout::Stdout;
use crate::transport::listener::{Address, Listening};
use crate::transport::open_files::{self, CONNECTIONS_MAX, FILES_WANTED};
use crate::transport::tls::Tls;
use crate::workers::retention;
use crate::workers::text_index;

/// For one step of a start, from one sign of it to the next: moving a long log on a slow disk. systemd kills a start that
/// takes longer.
const START_STEP_USEC_MAX: u32 = 300_000_000;

/// # Errors
/// It can't start, or could not end in time.
pub fn run(args: &ServeArgs) -> Result<(), Error> {
    let config = Config::read(args)?;
    let metrics = Metrics::new().expect("every metric has a valid name of its own");
    let (log, guard) = Stdout::open()
        .and_then(|stdout| log::start(config.log_level, stdout, metrics.log_lines_lost()))
        .map_err(Error::io("start the log"))?;
    let result = actix_web::rt::System::new().block_on(serve(config, &log, &guard, metrics));
    if let Err(error) = &result {
        slog::error!(log, "failed"; "error" => %error);
    }
    drop(guard);
    result
}

async fn serve(config: Config, log: &Logger, guard: &LogGuard, metrics: Metrics) -> Result<(), Error> {
    // Before anything else, so that a signal during the start is not lost.
    let mut signals = Signals::new().map_err(Error::io("wait for signals"))?;

    let tls = config.tls.clone().map(Tls::load).transpose()?;
    let mut passed = Listening::passed().map_err(Error::io("take the sockets of LISTEN_FDS"))?.into_iter();
    let Listening { listener, address: addr, file: _file } = bind(passed.next(), &config.bind_addr)?;
    let ops = match (passed.next(), &config.ops_bind_addr) {
        (Some(passed), _) => Some(passed),
        (None, Some(addr)) => Some(bind(None, addr)?),
        (None, None) => None,
    };
    let ops_addr = ops.as_ref().map(|ops| ops.address.clone());

    let store = Arc::new(open_store(&config, log, &metrics)?);
    if let Err(error) = store.ready().await {
        slog::error!(log, "messages can be read, but none can be stored"; "error" => %error);
    }
    metrics.watch(Arc::clone(&store) as _).expect("one store is watched");
    actix_web::rt::spawn(text_index::watch(Arc::clone(&store) as _, metrics.clone()));
    note_expiry(tls.as_ref(), &metrics);
    warn_of_open_doors(&config, ops_addr.as_ref().unwrap_or(&addr), log);
    let connections_max = connections_max(log);

    retention::announce(config.retention, log);
    actix_web::rt::spawn(retention::keep(
        config.retention,
        Arc::clone(&store) as _,
        SystemClock,
        log.clone(),
    ));

    let app = Data::new(App {
        source: default_source(config.secret.as_ref()),
        ingest: Ingest::new(Arc::clone(&store) as _, Arc::new(SystemClock)),
        query: Arc::clone(&store) as _,
        log: log.clone(),
        metrics: metrics.clone(),
        door: Door::new(config.api_token, config.trusted_proxies, config.allowed_hosts),
        body_bytes_max: config.body_bytes_max,
        budgets: Budgets::default(),
        questions: Questions::default(),
    });
    let serve = |listener, traffic, connections_max| {
        let tls_config = tls.as_ref().map(Tls::server_config).transpose()?;
        let limits = ConnectionLimits { all_max: connections_max, client_max: config.client_connections_max };
        app::serve(Data::clone(&app), listener, traffic, tls_config, limits).map_err(Error::io("serve"))
    };
    let (ops, _ops_file) = ops.map_or((None, None), |ops| (Some(ops.listener), ops.file));
    let servers = match ops {
        None => vec![serve(listener, Traffic::All, connections_max)?],
        // Each has its half: whoever takes up all those for webhooks does not take away those for questions.
        Some(ops) => vec![
            serve(listener, Traffic::Webhooks, connections_max / 2)?,
            serve(ops, Traffic::Questions, connections_max / 2)?,
        ],
    };
    let handles: Vec<_> = servers.iter().map(Server::handle).collect();
    let serving = actix_web::rt::spawn(futures_util::future::join_all(servers));
    slog::info!(log, "listening"; "addr" => %addr, "ops_addr" => ops_addr.map(|a| a.to_string()),
        "tls" => tls.is_some(), "version" => crate::VERSION, "database" => %config.database_path.display());
    // For systemd, if it started us; whether it hears it is its own affair.
    let _ = sd_notify::notify(&[NotifyState::Ready]);

    let stop_signal = loop {
        match signals.next().await {
            Signal::Stop(name) => break name,
            Signal::Reload => {
                reload(tls.as_ref(), log);
                note_expiry(tls.as_ref(), &metrics);
            }
            Signal::ToggleDebug => guard.toggle_debug(log),
        }
    };
    signals::end_in_time();
    slog::info!(log, "stopping"; "signal" => stop_signal);
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    futures_util::future::join_all(handles.iter().map(|handle| handle.stop(true))).await;
    // The servers' own results only repeat that they were stopped.
    let _ = serving.await;
    store.close().await;
    slog::info!(log, "stopped");
    Ok(())
}

fn open_store(config: &Config, log: &Logger, metrics: &Metrics) -> Result<SqliteStore, Error> {
    let (of_commits, of_events, log) = (metrics.clone(), metrics.clone(), log.clone());
    let store = SqliteStore::open(SqliteOptions {
        path: config.database_path.clone(),
        batch_messages_max: BATCH_MESSAGES_MAX,
        on_commit: Box::new(move |report| of_commits.committed(report)),
        on_event: Arc::new(move |event| {
            if let StoreEvent::StartGoesOn = event {
                // systemd kills what does not say that it goes on; whether it hears is its own affair.
                let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(START_STEP_USEC_MAX)]);
            }
            of_events.happened(&event);
            retention::log_event(&event, &log);
        }),
    });
    Ok(store?)
}

/// What systemd `passed`, or else what listens on `addr`.
fn bind(passed: Option<Listening>, addr: &Address) -> Result<Listening, Error> {
    let bound = passed.map_or_else(|| Listening::on(addr), Ok);
    bound.map_err(|source| Error::Bind { addr: addr.clone(), source })
}

/// Says what an operator may have forgotten.
fn warn_of_open_doors(config: &Config, questions_addr: &Address, log: &Logger) {
    for doubt in config.secret.iter().flat_map(|secret| secret::doubts(secret.expose_secret())) {
        slog::warn!(log, "WEBHOOK_SECRET {}", doubt);
    }
    if config.api_token.as_ref().is_some_and(|token| secret::is_well_known(token.expose_secret())) {
        slog::warn!(
            log,
            "API_TOKEN is well known, so anybody can read: make one with `openssl rand -hex 32`"
        );
    }
    if config.secret.is_none() {
        slog::warn!(
            log,
            "WEBHOOK_SECRET is not set (NUL bytes alone are none): webhooks are refused with 503"
        );
    }
    if config.api_token.is_none() && !questions_addr.is_local() {
        slog::warn!(log, "API_TOKEN is not set: whoever reaches the address can read all messages";
            "addr" => %questions_addr);
    }
}

/// How many connections to take; says so if they are fewer than they could be.
fn connections_max(log: &Logger) -> usize {
    let connections_max = open_files::connections_max();
    if connections_max < CONNECTIONS_MAX {
        slog::warn!(log, "the limit of open files leaves room for fewer connections than there could be";
            "connections_max" => connections_max, "files_wanted" => FILES_WANTED);
    }
    connections_max
}

/// Notes when the certificate that is presented now ends.
fn note_expiry(tls: Option<&Tls>, metrics: &Metrics) {
    if let Some((file, at)) = tls.and_then(Tls::expiry) {
        metrics.set_certificate_expiry(file, at);
    }
}

fn reload(tls: Option<&Tls>, log: &Logger) {
    match tls.map(Tls::reload) {
        None => slog::info!(log, "nothing to reload"),
        Some(Ok(())) => slog::info!(log, "reloaded TLS_CERT and TLS_KEY"),
        Some(Err(error)) => {
            slog::error!(log, "TLS reload failed, still serving the previous certificate"; "error" => %error);
        }
    }
}

/// The source of `POST /webhook`; without a secret it verifies, and so receives, nothing.
fn default_source(secret: Option<&Secret>) -> Source {
    let verifier = secret.and_then(|secret| XSignature::new(secret.expose_secret()).ok());
    Source::default_with(verifier.map(|v| Arc::new(v) as Arc<dyn SignatureVerifier>))
}
