//! Backlog of the text index, for the metrics. A scrape does not read it, because a query may have to wait for a read
//! connection.

use std::sync::Arc;
use std::time::Duration;

use domain::usage::StoreUsage;

use crate::telemetry::metrics::Metrics;

/// Time between two reads: Prometheus's usual interval.
const READ_EVERY: Duration = Duration::from_secs(15);

/// Reads the backlog again and again. If that fails, the last value stays.
pub(crate) async fn watch(store: Arc<dyn StoreUsage>, metrics: Metrics) {
    let mut ticks = actix_web::rt::time::interval(READ_EVERY);
    loop {
        ticks.tick().await;
        if let Ok(n) = store.unindexed_texts().await {
            metrics.set_unindexed_texts(n);
        }
    }
}
