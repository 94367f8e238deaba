//! How long messages are kept, and how long the keys that make later ones duplicates.

use std::sync::Arc;
use std::time::Duration;

use adapters::sqlite::{Expiry, SqliteStore};
use domain::time::{Clock, Timestamp};

/// How often what has expired is removed: days are counted, so that an hour more is none.
const REMOVE_EVERY: Duration = Duration::from_secs(3600);

const MICROS_PER_DAY: i64 = 24 * 3600 * 1_000_000;

/// Days from the arrival of a message.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// For so long a message is kept.
    pub message_days: i64,
    /// For so long its key is kept, and a repeat is a duplicate; `None` for ever.
    pub key_days: Option<i64>,
}

impl Retention {
    fn expiry(self, now: Timestamp) -> Expiry {
        let before =
            |days: i64| Timestamp::from_micros(now.as_micros().saturating_sub(days * MICROS_PER_DAY));
        Expiry { messages_before: before(self.message_days), keys_before: self.key_days.map(before) }
    }
}

/// Removes what has expired, now and every hour.
pub async fn keep(retention: Retention, store: Arc<SqliteStore>, clock: impl Clock) {
    let mut ticks = actix_web::rt::time::interval(REMOVE_EVERY);
    loop {
        ticks.tick().await;
        // What fails now is tried again in an hour; the writer's failures are seen elsewhere.
        let _ = store.expire(retention.expiry(clock.now())).await;
    }
}
