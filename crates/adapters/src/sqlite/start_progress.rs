//! Signs of progress of a start: migrating a large database takes minutes, and a supervisor would take the start for stuck.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use domain::event::StoreEvent;

/// Time between two signs of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Steps of SQLite's virtual machine between two looks at the clock: some milliseconds.
const STEPS_PER_LOOK: i32 = 100_000;

/// Calls `on_event` now and then while SQLite works on this connection, and not if it is stuck.
pub(crate) fn tell(db: &Connection, on_event: Arc<dyn Fn(StoreEvent) + Send + Sync>) -> rusqlite::Result<()> {
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

/// Ends the signs of progress: the start is done.
pub(crate) fn end(db: &Connection) -> rusqlite::Result<()> {
    db.progress_handler(0, None::<fn() -> bool>)
}
