//! Composition root: settings and a store become the [`App`] and the workers beside it.
//!
//! Only this file and the commands that are SQLite's own know which store it is.

use std::path::PathBuf;
use std::sync::Arc;

use actix_web::web::Data;
use adapters::clock::SystemClock;
use adapters::signature::XSignature;
use adapters::sqlite::{BATCH_MESSAGES_MAX, OpenError, SqliteOptions, SqliteStore};
use domain::event::StoreEvent;
use domain::ingest::Ingest;
use domain::query::MessageQuery;
use domain::retention::Retention;
use domain::signature::SignatureVerifier;
use domain::source::Source;
use domain::store::MessageStore;
use ipnet::IpNet;
use secrecy::ExposeSecret;
use slog::Logger;

use crate::access::client_addr::TrustedProxies;
use crate::access::host::AllowedHosts;
use crate::access::refusals::Refusals;
use crate::access::token::Token;
use crate::config::Secret;
use crate::limits::queries::Queries;
use crate::openapi;
use crate::state::{App, Budgets};
use crate::telemetry::metrics::{COMMIT_MESSAGES_BUCKET_MAX, Metrics};
use crate::telemetry::store_events;
use crate::workers::{retention, text_index};

const _: () =
    assert!(COMMIT_MESSAGES_BUCKET_MAX == BATCH_MESSAGES_MAX, "the last bucket is the largest batch");

/// Settings of an [`App`], whatever its store is.
pub struct AppSettings {
    /// Key of the default source; without one its webhooks are refused.
    pub webhook_secret: Option<Secret>,
    /// Token that queries must carry.
    pub api_token: Option<Secret>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Host names under which queries are answered without a token.
    pub allowed_hosts: Vec<String>,
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
}

/// Settings of the service: of its [`App`], its store and its workers.
pub struct ServiceSettings {
    /// Settings of the [`App`].
    pub app: AppSettings,
    /// Path of the database.
    pub database_path: PathBuf,
    /// Time for which messages and keys are kept.
    pub retention: Retention,
}

/// Service that is ready to be served.
pub struct Composed {
    /// State that all servers share.
    pub app: Data<App>,
    store: Arc<SqliteStore>,
    retention: Retention,
}

/// Opens the store and puts the service together. Calls `on_start_step` from time to time while the store opens.
///
/// # Errors
/// The store can't be opened.
pub fn compose(
    settings: ServiceSettings,
    log: &Logger,
    metrics: &Metrics,
    on_start_step: fn(),
) -> Result<Composed, OpenError> {
    let ServiceSettings { app: app_settings, database_path, retention } = settings;
    let store = Arc::new(open_store(database_path, log.clone(), metrics.clone(), on_start_step)?);
    metrics.watch(Arc::clone(&store) as _).expect("one store is watched");
    let app = app(app_settings, Arc::clone(&store), log.clone(), metrics.clone());
    Ok(Composed { app, store, retention })
}

/// Puts the [`App`] together with a store.
pub fn app<S>(settings: AppSettings, store: Arc<S>, log: Logger, metrics: Metrics) -> Data<App>
where
    S: MessageStore + MessageQuery + 'static,
{
    metrics.begin_answers(openapi::answers());
    Data::new(App {
        sources: [default_source(settings.webhook_secret.as_ref())].into_iter().collect(),
        ingest: Ingest::new(Arc::clone(&store) as _, Arc::new(SystemClock)),
        query: store,
        log,
        metrics,
        token: settings.api_token.map(Token::new),
        allowed_hosts: AllowedHosts::new(settings.allowed_hosts),
        trusted_proxies: TrustedProxies::new(settings.trusted_proxies),
        refusals: Refusals::default(),
        body_bytes_max: settings.body_bytes_max,
        budgets: Budgets::default(),
        queries: Queries::default(),
    })
}

impl Composed {
    /// Starts the workers, which run until the process ends.
    pub fn start_workers(&self) {
        let App { log, metrics, .. } = &**self.app;
        actix_web::rt::spawn(text_index::watch(Arc::clone(&self.store) as _, metrics.clone()));
        retention::announce(self.retention, log);
        let store = Arc::clone(&self.store) as _;
        actix_web::rt::spawn(retention::expire_hourly(self.retention, store, SystemClock, log.clone()));
    }

    /// Commits the accepted messages and closes the store.
    pub async fn close(&self) {
        self.store.close().await;
    }
}

fn open_store(
    path: PathBuf,
    log: Logger,
    metrics: Metrics,
    on_start_step: fn(),
) -> Result<SqliteStore, OpenError> {
    let of_commits = metrics.clone();
    SqliteStore::open(SqliteOptions {
        path,
        batch_messages_max: BATCH_MESSAGES_MAX,
        on_commit: Box::new(move |report| of_commits.committed(report)),
        on_event: Arc::new(move |event| {
            if let StoreEvent::StartGoesOn = event {
                on_start_step();
            }
            metrics.happened(&event);
            store_events::log_event(&event, &log);
        }),
    })
}

/// Returns the source of `POST /webhook`. Without a secret it verifies nothing, and so receives nothing.
fn default_source(secret: Option<&Secret>) -> Source {
    let verifier = secret.and_then(|secret| XSignature::new(secret.expose_secret()).ok());
    Source::default_with(verifier.map(|v| Arc::new(v) as Arc<dyn SignatureVerifier>))
}
