//! How long messages are kept, and how long the keys that make later ones duplicates.
//!
//! What has expired is decided in the store, which notes once an hour how far the messages have come.

use std::sync::Arc;
use std::time::Duration;

use domain::event::StoreEvent;
use domain::retention::{MessageExpiry, Retention};
use domain::time::Clock;
use slog::Logger;

/// How often the time is noted, and what has expired is removed: days are counted, so that an hour more is none.
const NOTE_EVERY: Duration = Duration::from_secs(3600);

/// Logs for how long messages and keys are kept.
pub fn announce(retention: Retention, log: &Logger) {
    let days = |kept: Option<Duration>| {
        kept.map_or_else(|| "for ever".to_owned(), |kept| (kept.as_secs() / (24 * 3600)).to_string())
    };
    slog::info!(log, "retention"; "retention_days" => days(retention.messages),
        "dedupe_days" => days(retention.keys));
}

/// Removes what has expired, now and every hour. Without retention it only notes the time, so that there are notes to go
/// by when it is asked for.
pub async fn keep(retention: Retention, store: Arc<dyn MessageExpiry>, clock: impl Clock, log: Logger) {
    let mut ticks = actix_web::rt::time::interval(NOTE_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = store.expire(retention, clock.now()).await {
            slog::error!(log, "cannot remove what has expired: tried again with the next message, or in an hour";
                "error" => %error);
        }
    }
}

/// Logs what the store did by itself.
pub fn log_event(event: &StoreEvent, log: &Logger) {
    match event {
        // Counted, not logged: there is one with each commit.
        StoreEvent::Expired { .. } => {}
        StoreEvent::Purged { messages, keys, took } => slog::info!(log, "removed what has expired";
            "expired_messages" => messages, "expired_keys" => keys, "took_s" => took.as_secs_f64()),
        StoreEvent::Deleted { messages } => {
            slog::info!(log, "messages were deleted by hookkeeper delete"; "deleted_messages" => messages);
        }
        StoreEvent::ClockJumped { from, to } => slog::warn!(
            log,
            "the clock jumped by more than a day: nothing expires until it is set right, or has gone on for a day";
            "from" => %from, "to" => %to),
        StoreEvent::ClockSettled => {
            slog::info!(log, "the clock has gone on for a day without a jump: what has expired is removed");
        }
        // For who started the service, not for who reads its log.
        StoreEvent::StartGoesOn => {}
        StoreEvent::SearchIndexRebuilt { why } => {
            slog::warn!(log, "the index of texts does not fit and is made anew"; "why" => why);
        }
        StoreEvent::ChoresFailed(error) => {
            slog::error!(log, "cannot tidy the store: tried again with the next message"; "error" => %error);
        }
    }
}
