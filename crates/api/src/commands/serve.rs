//! `hookkeeper serve`: receives until a signal stops it.

use actix_web::dev::Server;
use actix_web::web::Data;
use sd_notify::NotifyState;
use secrecy::ExposeSecret;
use slog::Logger;

use super::Error;
use crate::compose::{self, AppSettings, ServiceSettings};
use crate::config::secret;
use crate::config::{Config, ServeArgs};
use crate::server::{self, ConnectionLimits, Traffic};
use crate::signals::{self, Signal, Signals};
use crate::telemetry::log::{self, LogGuard};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::stdout::Stdout;
use crate::transport::listener::{Address, Listening};
use crate::transport::open_files::{self, CONNECTIONS_MAX, FILES_WANTED};
use crate::transport::tls::Tls;

/// Microseconds that one step of a start may take: moving a long write-ahead log on a slow disk. systemd kills a start
/// whose next step takes longer.
const START_STEP_USEC_MAX: u32 = 300_000_000;

/// Serves until a signal stops it.
///
/// # Errors
/// The service can't start.
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

    warn_of_open_doors(&config, ops_addr.as_ref().unwrap_or(&addr), log);
    let database = config.database_path.display().to_string();
    let client_max = config.client_connections_max;
    let composed = compose::compose(config.into(), log, &metrics, extend_start_time)?;
    if let Err(error) = composed.app.query.ready().await {
        slog::error!(log, "messages can be read, but none can be stored"; "error" => %error);
    }
    note_expiry(tls.as_ref(), &metrics);
    let connections_max = connections_max(log);
    composed.start_workers();

    let serve = |listener, traffic, all_max| {
        let tls_config = tls.as_ref().map(Tls::server_config).transpose()?;
        let limits = ConnectionLimits { all_max, client_max };
        server::serve(Data::clone(&composed.app), listener, traffic, tls_config, limits)
            .map_err(Error::io("serve"))
    };
    let (ops, _ops_file) = ops.map_or((None, None), |ops| (Some(ops.listener), ops.file));
    let servers = match ops {
        None => vec![serve(listener, Traffic::All, connections_max)?],
        // Each has a half of the connections, so that webhooks can't take up those for queries.
        Some(ops) => vec![
            serve(listener, Traffic::Webhooks, connections_max / 2)?,
            serve(ops, Traffic::Queries, connections_max / 2)?,
        ],
    };
    let handles: Vec<_> = servers.iter().map(Server::handle).collect();
    let serving = actix_web::rt::spawn(futures_util::future::join_all(servers));
    slog::info!(log, "listening"; "addr" => %addr, "ops_addr" => ops_addr.map(|a| a.to_string()),
        "tls" => tls.is_some(), "version" => crate::VERSION, "database" => database);
    // Fails without systemd, which does not matter.
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
    // The results of the servers only repeat that they were stopped.
    let _ = serving.await;
    composed.close().await;
    slog::info!(log, "stopped");
    Ok(())
}

impl From<Config> for ServiceSettings {
    fn from(config: Config) -> Self {
        Self {
            app: AppSettings {
                webhook_secret: config.secret,
                api_token: config.api_token,
                trusted_proxies: config.trusted_proxies,
                allowed_hosts: config.allowed_hosts,
                body_bytes_max: config.body_bytes_max,
            },
            database_path: config.database_path,
            retention: config.retention,
        }
    }
}

/// Tells systemd that the start goes on, or it would kill the service.
fn extend_start_time() {
    // Fails without systemd, which does not matter.
    let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(START_STEP_USEC_MAX)]);
}

/// Returns the socket that systemd `passed`, or else one that listens on `addr`.
fn bind(passed: Option<Listening>, addr: &Address) -> Result<Listening, Error> {
    let bound = passed.map_or_else(|| Listening::on(addr), Ok);
    bound.map_err(|source| Error::Bind { addr: addr.clone(), source })
}

/// Warns of settings that let others in or keep webhooks out.
fn warn_of_open_doors(config: &Config, queries_addr: &Address, log: &Logger) {
    for doubt in config.secret.iter().flat_map(|secret| secret::doubts(secret.expose_secret())) {
        slog::warn!(log, "WEBHOOK_SECRET {}", doubt);
    }
    if config.api_token.as_ref().is_some_and(|token| secret::is_well_known(token.expose_secret())) {
        slog::warn!(
            log,
            "API_TOKEN is well known, so anyone can read all messages: generate one with `openssl rand -hex 32`"
        );
    }
    if config.secret.is_none() {
        slog::warn!(
            log,
            "WEBHOOK_SECRET is not set (only NUL bytes count as not set): webhooks are refused with 503"
        );
    }
    if config.api_token.is_none() && !queries_addr.is_local() {
        slog::warn!(log, "API_TOKEN is not set: anyone who can reach the address can read all messages";
            "addr" => %queries_addr);
    }
}

/// Returns the limit of connections, and warns if the open-file limit lowers it.
fn connections_max(log: &Logger) -> usize {
    let connections_max = open_files::connections_max();
    if connections_max < CONNECTIONS_MAX {
        slog::warn!(log, "the open-file limit allows only {} connections: raise it to {} for {}",
            connections_max, FILES_WANTED, CONNECTIONS_MAX;
            "connections_max" => connections_max, "files_wanted" => FILES_WANTED);
    }
    connections_max
}

/// Notes when the certificate in use expires.
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
