//! How long messages are kept, and how long the keys that make later ones duplicates.
//!
//! What has expired is decided in the store, which notes once an hour how far the messages have come.

use std::sync::Arc;
use std::time::Duration;

use adapters::sqlite::{Event, Keep, SqliteStore};
use domain::time::Clock;
use slog::Logger;

/// How often the time is noted, and what has expired is removed: days are counted, so that an hour more is none.
const NOTE_EVERY: Duration = Duration::from_secs(3600);

/// Days from the arrival of a message.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// For so long a message is kept.
    pub message_days: u32,
    /// For so long its key is kept, and a repeat is a duplicate; `None` for ever.
    pub key_days: Option<u32>,
}

/// Says what is kept for how long.
pub fn announce(retention: Option<Retention>, log: &Logger) {
    let days = |days: Option<u32>| days.map_or_else(|| "for ever".to_owned(), |days| days.to_string());
    slog::info!(log, "retention"; "retention_days" => days(retention.map(|r| r.message_days)),
        "dedupe_days" => days(retention.and_then(|r| r.key_days)));
}

/// Removes what has expired, now and every hour. Without retention it only notes the time, so that there are notes to go
/// by when it is asked for.
pub async fn keep(retention: Option<Retention>, store: Arc<SqliteStore>, clock: impl Clock, log: Logger) {
    let duration = |days: u32| Duration::from_secs(24 * 3600) * days;
    let messages = retention.map(|r| duration(r.message_days));
    let keys = retention.and_then(|r| r.key_days).map(duration);
    let mut ticks = actix_web::rt::time::interval(NOTE_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = store.keep(Keep { now: clock.now(), messages, keys }).await {
            slog::error!(log, "cannot remove what has expired: tried again with the next message, or in an hour";
                "error" => %error);
        }
    }
}

/// Logs what the store did by itself.
pub fn log_event(event: &Event, log: &Logger) {
    match event {
        // Counted, not logged: there is one with each commit.
        Event::Expired { .. } => {}
        Event::Purged { messages, keys, took } => slog::info!(log, "removed what has expired";
            "expired_messages" => messages, "expired_keys" => keys, "took_s" => took.as_secs_f64()),
        Event::Deleted { messages } => {
            slog::info!(log, "messages were deleted by hookkeeper delete"; "deleted_messages" => messages);
        }
        Event::ClockJumped { from, to } => slog::warn!(
            log,
            "the clock jumped by more than a day: nothing expires until it is set right, or has gone on for a day";
            "from" => %from, "to" => %to),
        Event::ClockSettled => {
            slog::info!(log, "the clock has gone on for a day without a jump: what has expired is removed");
        }
        // For who started the service, not for who reads its log.
        Event::StartGoesOn => {}
        Event::SearchIndexRebuilt { why } => {
            slog::warn!(log, "the index of texts does not fit and is made anew"; "why" => why);
        }
        Event::ChoresFailed(error) => {
            slog::error!(log, "cannot tidy the store: tried again with the next message"; "error" => %error);
        }
    }
}
