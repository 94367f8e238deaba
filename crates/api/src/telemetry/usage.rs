//! Metrics of the resources that the store takes up, read at each scrape.

use std::sync::Arc;

use domain::usage::StoreUsage;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge};

/// Collector of the store's usage.
pub(super) struct UsageCollector {
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
    pub(super) fn new(store: Arc<dyn StoreUsage>) -> prometheus::Result<Self> {
        Ok(Self {
            store,
            queue_depth: IntGauge::new("hookkeeper_queue_depth", "Appends that wait for a commit.")?,
            queue_capacity: IntGauge::new(
                "hookkeeper_queue_capacity",
                "Appends that may wait for a commit.",
            )?,
            store_bytes: IntGauge::new("hookkeeper_store_bytes", "Size of all files of the database.")?,
            last_backup: Gauge::new(
                "hookkeeper_last_backup_timestamp_seconds",
                "Unix time of the last backup; missing before the first.",
            )?,
            wal_bytes: IntGauge::new("hookkeeper_wal_bytes", "Size of the write-ahead log.")?,
            disk_free_bytes: IntGauge::new(
                "hookkeeper_disk_free_bytes",
                "Bytes that are free on the file system of the database.",
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
