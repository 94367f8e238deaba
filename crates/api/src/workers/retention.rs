//! Retention: every hour the store removes the messages and keys that have expired.

use std::sync::Arc;
use std::time::Duration;

use domain::retention::{MessageExpiry, Retention};
use domain::time::Clock;
use slog::Logger;

/// Time between two removals. Retention is counted in days, so an hour more does not matter.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);

/// Logs for how long messages and keys are kept.
pub(crate) fn announce(retention: Retention, log: &Logger) {
    let days = |kept: Option<Duration>| {
        kept.map_or_else(|| "for ever".to_owned(), |kept| (kept.as_secs() / (24 * 3600)).to_string())
    };
    slog::info!(log, "retention"; "retention_days" => days(retention.messages),
        "dedupe_days" => days(retention.keys));
}

/// Removes expired messages and keys, now and every hour. Without retention the store only notes the time, which a later
/// retention goes by.
pub(crate) async fn expire_hourly(
    retention: Retention,
    store: Arc<dyn MessageExpiry>,
    clock: impl Clock,
    log: Logger,
) {
    let mut ticks = actix_web::rt::time::interval(EXPIRE_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = store.expire(retention, clock.now()).await {
            slog::error!(log, "cannot remove what has expired: the next message or the next hour retries it";
                "error" => %error);
        }
    }
}
