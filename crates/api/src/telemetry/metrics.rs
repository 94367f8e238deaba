//! Metrics: all names, meanings and buckets, except those of the usage of the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::event::{CommitReport, StoreEvent};
use domain::time::Timestamp;
use domain::usage::StoreUsage;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use super::usage::UsageCollector;
use crate::transport::permits::PermitMetrics;
use crate::webhook_result::WebhookResult;

/// `path` of `http_requests_total` for every unknown path, so that a scanner creates no series.
pub(crate) const UNKNOWN_PATH: &str = "unknown";

/// Largest bucket of `hookkeeper_commit_batch_messages`: the largest batch.
pub(crate) const COMMIT_MESSAGES_BUCKET_MAX: usize = 1 << (COMMIT_MESSAGES_BUCKETS - 1);

/// Buckets of `hookkeeper_commit_batch_messages`, each twice the one before.
const COMMIT_MESSAGES_BUCKETS: usize = 10;

/// Every value of `kind` of `hookkeeper_expired_total`.
pub const EXPIRED_KINDS: [&str; 2] = ["message", "key"];

/// Buckets in milliseconds: from an answer without a flush to the longest wait that a sender accepts.
const LATENCY_MS_BUCKETS: [f64; 16] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0];

/// Buckets in seconds: from the flush of a fast SSD to a disk that is stuck.
const COMMIT_SECONDS_BUCKETS: [f64; 13] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Metrics of the process. A clone is cheap and shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    http_requests: IntCounterVec,
    webhook_requests: IntCounterVec,
    request_latency: Histogram,
    webhook_seconds: Histogram,
    commit_batch: Histogram,
    commit_seconds: Histogram,
    commit_failures: IntCounter,
    expired: IntCounterVec,
    deleted: IntCounter,
    search_index_rebuilds: IntCounter,
    log_lines_lost: IntCounter,
    ready: IntGauge,
    last_message: GaugeVec,
    connections: PermitMetrics,
    handshakes: PermitMetrics,
    unindexed_texts: IntGauge,
    certificate_expiry: GaugeVec,
}

impl Metrics {
    /// Registers all metrics, at zero.
    ///
    /// # Errors
    /// A name is not valid or registered twice, which a test would have shown.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            http_requests: IntCounterVec::new(
                Opts::new("http_requests_total", "Requests answered, by route pattern and status."),
                &["path", "status"],
            )?,
            webhook_requests: IntCounterVec::new(
                Opts::new("webhook_requests_total", "POSTs to the webhook, by result."),
                &["result"],
            )?,
            request_latency: Histogram::with_opts(
                HistogramOpts::new(
                    "request_latency_ms",
                    "Milliseconds from the head of a request to its answer.",
                )
                .buckets(LATENCY_MS_BUCKETS.to_vec()),
            )?,
            webhook_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "hookkeeper_webhook_seconds",
                    "Duration of a POST to the webhook, from its head to its answer, with any result.",
                )
                .buckets(LATENCY_MS_BUCKETS.map(|ms| ms / 1000.0).to_vec()),
            )?,
            commit_batch: Histogram::with_opts(
                HistogramOpts::new(
                    "hookkeeper_commit_batch_messages",
                    "Messages of a commit, repeats included.",
                )
                .buckets(prometheus::exponential_buckets(1.0, 2.0, COMMIT_MESSAGES_BUCKETS)?),
            )?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new("hookkeeper_commit_seconds", "Duration of a commit, flush included.")
                    .buckets(COMMIT_SECONDS_BUCKETS.to_vec()),
            )?,
            commit_failures: IntCounter::new("hookkeeper_commit_failures_total", "Commits that failed.")?,
            expired: IntCounterVec::new(
                Opts::new(
                    "hookkeeper_expired_total",
                    "Expired messages and expired keys of messages that were removed.",
                ),
                &["kind"],
            )?,
            deleted: IntCounter::new(
                "hookkeeper_deleted_total",
                "Messages that `hookkeeper delete` removed while the service ran.",
            )?,
            search_index_rebuilds: IntCounter::new(
                "hookkeeper_search_index_rebuilds_total",
                "Rebuilds of the text index because it was damaged or did not match the database.",
            )?,
            log_lines_lost: IntCounter::new(
                "hookkeeper_log_lines_lost_total",
                "Log lines that were lost because they could not be written.",
            )?,
            ready: IntGauge::new("hookkeeper_ready", "1 if /health/ready would answer 200, else 0.")?,
            last_message: GaugeVec::new(
                Opts::new(
                    "hookkeeper_last_message_timestamp_seconds",
                    "Unix time of the last message stored since the process started.",
                ),
                &["source"],
            )?,
            connections: PermitMetrics::new(&registry, "hookkeeper_connections", "Connections")?,
            handshakes: PermitMetrics::new(&registry, "hookkeeper_handshakes", "TLS handshakes under way")?,
            unindexed_texts: IntGauge::new(
                "hookkeeper_unindexed_texts",
                "Messages that are not in the text index yet, read every 15 s.",
            )?,
            certificate_expiry: GaugeVec::new(
                Opts::new(
                    "hookkeeper_tls_certificate_expiry_timestamp_seconds",
                    "Unix time at which the certificate in TLS_CERT expires.",
                ),
                &["file"],
            )?,
            registry,
        };
        let build = IntGauge::with_opts(
            Opts::new("hookkeeper_build_info", "Always 1; the labels name the running build.")
                .const_label("version", env!("CARGO_PKG_VERSION"))
                .const_label("commit", env!("HOOKKEEPER_COMMIT")),
        )?;
        build.set(1);
        // A series must exist from the start, or its first increase is lost to rate().
        for result in WebhookResult::ALL {
            metrics.webhook_requests.with_label_values(&[result.as_str()]);
        }
        for kind in EXPIRED_KINDS {
            metrics.expired.with_label_values(&[kind]);
        }
        metrics.http_requests.with_label_values(&[UNKNOWN_PATH, "404"]);
        let collectors: Vec<Box<dyn Collector>> = vec![
            Box::new(metrics.http_requests.clone()),
            Box::new(metrics.webhook_requests.clone()),
            Box::new(metrics.request_latency.clone()),
            Box::new(metrics.webhook_seconds.clone()),
            Box::new(metrics.commit_batch.clone()),
            Box::new(metrics.commit_seconds.clone()),
            Box::new(metrics.commit_failures.clone()),
            Box::new(metrics.expired.clone()),
            Box::new(metrics.deleted.clone()),
            Box::new(metrics.search_index_rebuilds.clone()),
            Box::new(metrics.log_lines_lost.clone()),
            Box::new(metrics.ready.clone()),
            Box::new(metrics.last_message.clone()),
            Box::new(metrics.unindexed_texts.clone()),
            Box::new(metrics.certificate_expiry.clone()),
            Box::new(build),
            Box::new(ProcessCollector::for_self()),
        ];
        for collector in collectors {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Begins the series of these answers, given by path and status, at zero.
    pub fn begin_answers(&self, answers: impl IntoIterator<Item = (String, String)>) {
        for (path, status) in answers {
            self.http_requests.with_label_values(&[&path, &status]);
        }
    }

    /// Reads the usage of the store at every scrape from now on.
    ///
    /// # Errors
    /// The usage of a store is read already.
    pub fn watch(&self, store: Arc<dyn StoreUsage>) -> prometheus::Result<()> {
        self.registry.register(Box::new(UsageCollector::new(store)?))
    }

    /// Returns the metrics of connections.
    pub(crate) fn connections(&self) -> PermitMetrics {
        self.connections.clone()
    }

    /// Returns the metrics of TLS handshakes.
    pub(crate) fn handshakes(&self) -> PermitMetrics {
        self.handshakes.clone()
    }

    /// Counts one answered request.
    pub fn answered(&self, route: &str, status: u16, latency: Duration) {
        self.http_requests.with_label_values(&[route, status.to_string().as_str()]).inc();
        self.request_latency.observe(latency.as_secs_f64() * 1000.0);
    }

    /// Counts one webhook.
    pub fn webhook(&self, result: WebhookResult, latency: Duration) {
        self.webhook_requests.with_label_values(&[result.as_str()]).inc();
        self.webhook_seconds.observe(latency.as_secs_f64());
    }

    /// Notes how many messages are not in the text index.
    pub fn set_unindexed_texts(&self, n: u64) {
        self.unindexed_texts.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// Notes when the certificate in a file expires.
    pub fn set_certificate_expiry(&self, file: &Path, at: i64) {
        // Exact until the year 285 million.
        self.certificate_expiry.with_label_values(&[&*file.to_string_lossy()]).set(at as f64);
    }

    /// Returns the counter of lost log lines.
    #[must_use]
    pub fn log_lines_lost(&self) -> IntCounter {
        self.log_lines_lost.clone()
    }

    /// Notes that a message was stored.
    pub fn stored(&self, source: &str, at: Timestamp) {
        // Exact to the microsecond until the year 2255.
        self.last_message.with_label_values(&[source]).set(at.as_micros() as f64 / 1e6);
    }

    /// Counts one commit.
    pub fn committed(&self, report: CommitReport) {
        self.commit_seconds.observe(report.took.as_secs_f64());
        if report.ok {
            // A batch has at most a few hundred messages: exact in a float.
            self.commit_batch.observe(f64::from(u32::try_from(report.messages).unwrap_or(u32::MAX)));
        } else {
            self.commit_failures.inc();
        }
    }

    /// Counts an event of the store.
    pub fn happened(&self, event: &StoreEvent) {
        match event {
            StoreEvent::Expired { messages, keys } => {
                for (kind, n) in EXPIRED_KINDS.iter().zip([messages, keys]) {
                    self.expired.with_label_values(&[kind]).inc_by(*n);
                }
            }
            StoreEvent::Deleted { messages } => self.deleted.inc_by(*messages),
            StoreEvent::SearchIndexRebuilt { .. } => self.search_index_rebuilds.inc(),
            _ => {}
        }
    }

    /// Notes whether the service is ready.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// Returns all metrics in the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// A metric has no values, which does not happen.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
