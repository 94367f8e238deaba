//! The metrics: names, meanings and buckets are all here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::event::{CommitReport, StoreEvent};
use domain::time::Timestamp;
use domain::usage::StoreUsage;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::middleware::observe::UNKNOWN_PATH;
use crate::openapi;
use crate::transport::permits::PermitMetrics;

/// Every value of `result`.
pub const WEBHOOK_RESULTS: [&str; 7] = [
    "created",
    "duplicate",
    "invalid_signature",
    "validation_error",
    "too_large",
    "unavailable",
    "incomplete",
];

/// Every value of `kind` of what expires.
pub const EXPIRED_KINDS: [&str; 2] = ["message", "key"];

/// Milliseconds: from an answer without a flush to the longest wait that a sender puts up with.
const LATENCY_MS_BUCKETS: [f64; 16] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0];

/// Seconds: from a fast SSD's flush to a disk that is stuck.
const COMMIT_SECONDS_BUCKETS: [f64; 13] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// All metrics of the process. Cheap to clone: they are shared.
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
    /// Registers them all, at zero.
    ///
    /// # Errors
    /// A name is not valid or there twice, which a test would have shown.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            http_requests: IntCounterVec::new(
                Opts::new("http_requests_total", "Requests answered, by route pattern and status."),
                &["path", "status"],
            )?,
            webhook_requests: IntCounterVec::new(
                Opts::new("webhook_requests_total", "POSTs to the webhook, by what became of them."),
                &["result"],
            )?,
            request_latency: Histogram::with_opts(
                HistogramOpts::new("request_latency_ms", "Milliseconds from a request's head to its answer.")
                    .buckets(LATENCY_MS_BUCKETS.to_vec()),
            )?,
            webhook_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "hookkeeper_webhook_seconds",
                    "Duration of one POST to the webhook, from its head to its answer, whatever that is.",
                )
                .buckets(LATENCY_MS_BUCKETS.map(|ms| ms / 1000.0).to_vec()),
            )?,
            commit_batch: Histogram::with_opts(
                HistogramOpts::new(
                    "hookkeeper_commit_batch_messages",
                    "Messages of one commit, repeats included.",
                )
                .buckets(prometheus::exponential_buckets(1.0, 2.0, 10)?),
            )?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new("hookkeeper_commit_seconds", "Duration of one commit, flush included.")
                    .buckets(COMMIT_SECONDS_BUCKETS.to_vec()),
            )?,
            commit_failures: IntCounter::new("hookkeeper_commit_failures_total", "Commits that failed.")?,
            expired: IntCounterVec::new(
                Opts::new(
                    "hookkeeper_expired_total",
                    "Messages, and keys of messages, that were removed because they are kept no longer.",
                ),
                &["kind"],
            )?,
            deleted: IntCounter::new(
                "hookkeeper_deleted_total",
                "Messages that `hookkeeper delete` removed while the service ran.",
            )?,
            search_index_rebuilds: IntCounter::new(
                "hookkeeper_search_index_rebuilds_total",
                "Times that the index of texts was found damaged and made anew.",
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
                "Messages that the index of texts does not have yet, as of the last look.",
            )?,
            certificate_expiry: GaugeVec::new(
                Opts::new(
                    "hookkeeper_tls_certificate_expiry_timestamp_seconds",
                    "Unix time at which the certificate of TLS_CERT ends.",
                ),
                &["file"],
            )?,
            registry,
        };
        let build = IntGauge::with_opts(
            Opts::new("hookkeeper_build_info", "Always 1; the labels say which build runs.")
                .const_label("version", env!("CARGO_PKG_VERSION"))
                .const_label("commit", env!("HOOKKEEPER_COMMIT")),
        )?;
        build.set(1);
        // A series that is there from the start can be rated from the start.
        for result in WEBHOOK_RESULTS {
            metrics.webhook_requests.with_label_values(&[result]);
        }
        for kind in EXPIRED_KINDS {
            metrics.expired.with_label_values(&[kind]);
        }
        for (path, status) in openapi::answers() {
            metrics.http_requests.with_label_values(&[&path, &status]);
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

    /// Watches what the store takes up, from now on at every scrape.
    ///
    /// # Errors
    /// A store is watched already.
    pub fn watch(&self, store: Arc<dyn StoreUsage>) -> prometheus::Result<()> {
        self.registry.register(Box::new(UsageCollector::new(store)?))
    }

    /// What is counted of connections.
    pub(crate) fn connections(&self) -> PermitMetrics {
        self.connections.clone()
    }

    /// What is counted of TLS handshakes.
    pub(crate) fn handshakes(&self) -> PermitMetrics {
        self.handshakes.clone()
    }

    /// Counts one answered request.
    pub fn answered(&self, route: &str, status: u16, latency: Duration) {
        self.http_requests.with_label_values(&[route, status.to_string().as_str()]).inc();
        self.request_latency.observe(latency.as_secs_f64() * 1000.0);
    }

    /// Counts what became of one POST to the webhook.
    pub fn webhook(&self, result: &str, latency: Duration) {
        self.webhook_requests.with_label_values(&[result]).inc();
        self.webhook_seconds.observe(latency.as_secs_f64());
    }

    /// Notes how many messages the index of texts does not have.
    pub fn set_unindexed_texts(&self, n: u64) {
        self.unindexed_texts.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// Notes when the certificate in a file ends.
    pub fn set_certificate_expiry(&self, file: &Path, at: i64) {
        // Exact until the year 285 million.
        self.certificate_expiry.with_label_values(&[&*file.to_string_lossy()]).set(at as f64);
    }

    /// For the log to count in.
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

    /// Counts what the store did by itself.
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

    /// All of it in the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// A metric has no values, which none of ours is without.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Reads the store's usage when Prometheus asks.
struct UsageCollector {
    store: Arc<dyn StoreUsage>,
    queue_depth: IntGauge,
    queue_capacity: IntGauge,
    store_bytes: IntGauge,
    last_backup: Gauge,
    wal_bytes: IntGauge,
    disk_free_bytes: IntGauge,
    disk_size_bytes: IntGauge,
}

impl UsageCollector {
    fn new(store: Arc<dyn StoreUsage>) -> prometheus::Result<Self> {
        Ok(Self {
            store,
            queue_depth: IntGauge::new("hookkeeper_queue_depth", "Deliveries that wait for a commit.")?,
            queue_capacity: IntGauge::new("hookkeeper_queue_capacity", "Deliveries that may wait.")?,
            store_bytes: IntGauge::new("hookkeeper_store_bytes", "Size of all files of the database.")?,
            last_backup: Gauge::new(
                "hookkeeper_last_backup_timestamp_seconds",
                "Unix time of the last backup; not there before the first.",
            )?,
            wal_bytes: IntGauge::new("hookkeeper_wal_bytes", "Size of the write-ahead log.")?,
            disk_free_bytes: IntGauge::new(
                "hookkeeper_disk_free_bytes",
                "What is left on the file system of the database.",
            )?,
            disk_size_bytes: IntGauge::new(
                "hookkeeper_disk_size_bytes",
                "Size of the file system of the database.",
            )?,
        })
    }

    fn gauges(&self) -> [&IntGauge; 6] {
        [
            &self.queue_depth,
            &self.queue_capacity,
            &self.store_bytes,
            &self.wal_bytes,
            &self.disk_free_bytes,
            &self.disk_size_bytes,
        ]
    }
}

impl Collector for UsageCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(Collector::desc).chain(self.last_backup.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let usage = self.store.usage();
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.queue_depth.set(gauge(usage.queue_depth as u64));
        self.queue_capacity.set(gauge(usage.queue_capacity as u64));
        self.store_bytes.set(gauge(usage.store_bytes));
        self.wal_bytes.set(gauge(usage.wal_bytes));
        self.disk_free_bytes.set(gauge(usage.disk_free_bytes));
        self.disk_size_bytes.set(gauge(usage.disk_size_bytes));
        let mut families: Vec<_> = self.gauges().into_iter().flat_map(Collector::collect).collect();
        if let Some(at) = usage.last_backup {
            self.last_backup.set(at.as_secs_f64());
            families.extend(self.last_backup.collect());
        }
        families
    }
}
