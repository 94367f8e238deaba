//! Tells that a start is at work: bringing a large database up to date takes minutes, and whoever waits for the start
//! would take it for stuck.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use domain::event::StoreEvent;

/// How often it is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Steps of SQLite's virtual machine between two looks at the clock: some milliseconds.
const STEPS_PER_LOOK: i32 = 100_000;

/// From now on, tells whenever SQLite has done some work on this connection: not if it is stuck.
pub(super) fn tell(db: &Connection, on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>) -> rusqlite::Result<()> {
    let mut told: Option<Instant> = None;
    let look = move || {
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            on_event(StoreEvent::StartGoesOn);
        }
        false
    };
    db.progress_handler(STEPS_PER_LOOK, Some(look))
}

/// The start is over.
pub(super) fn end(db: &Connection) -> rusqlite::Result<()> {
    db.progress_handler(0, None::<fn() -> bool>)
}
