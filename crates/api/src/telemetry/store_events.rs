//! Events of the store in the log.

use domain::event::StoreEvent;
use slog::Logger;

/// Logs an event of the store.
pub(crate) fn log_event(event: &StoreEvent, log: &Logger) {
    match event {
        // Counted by the metrics only: each commit may have one.
        StoreEvent::Expired { .. } => {}
        StoreEvent::Purged { messages, keys, took } => slog::info!(log, "removed what has expired";
            "expired_messages" => messages, "expired_keys" => keys, "took_s" => took.as_secs_f64()),
        StoreEvent::Deleted { messages } => {
            slog::info!(log, "messages were deleted by hookkeeper delete"; "deleted_messages" => messages);
        }
        StoreEvent::ClockJumped { from, to } => slog::warn!(
            log,
            "the clock jumped by more than a day: nothing expires until it is set right or has run on for a day";
            "from" => %from, "to" => %to),
        StoreEvent::ClockSettled => {
            slog::info!(
                log,
                "the clock has run for a day without a jump: expired messages are removed again"
            );
        }
        // For the service manager, not for the log.
        StoreEvent::StartGoesOn => {}
        StoreEvent::SearchIndexRebuilt { why } => {
            slog::warn!(log, "rebuilding the text index, which is damaged or does not match the database";
                "why" => why);
        }
        StoreEvent::ChoresFailed(error) => {
            slog::error!(log, "cannot tidy the store: the next message retries it"; "error" => %error);
        }
    }
}
