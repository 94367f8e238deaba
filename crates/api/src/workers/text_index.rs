//! How far the index of texts is behind. A scrape does not ask for it, because a question may have to wait for its turn.

use std::sync::Arc;
use std::time::Duration;

use domain::usage::StoreUsage;

use crate::telemetry::metrics::Metrics;

/// As often as Prometheus usually asks.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Looks again and again, and keeps what it saw last if it can't.
pub async fn watch(store: Arc<dyn StoreUsage>, metrics: Metrics) {
    let mut ticks = actix_web::rt::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        if let Ok(n) = store.unindexed_texts().await {
            metrics.set_unindexed_texts(n);
        }
    }
}
