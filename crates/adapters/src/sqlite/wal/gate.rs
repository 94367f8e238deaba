//! Keeps a write-ahead log bounded while questions overlap.
//!
//! SQLite begins a log anew when all of it is in the database file and nobody reads from it. Questions that overlap
//! leave no such moment, and the log grows for as long as they do. So who writes closes the gate once its log is long:
//! no search begins until those under way have ended, which takes [`READ_TIME_MAX`] at most. Look-ups go on, because
//! they end within a moment that a writer can wait for. If the log grows by too much meanwhile, questions are cut off.
//!
//! What another process reads (a backup, a check) is not held back: the log grows until it has ended.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::sqlite::read::reader::READ_TIME_MAX;
use crate::sqlite::schema::BUSY_WAIT_MAX;

/// Pages of a log from which on the gate is closed (64 MiB of 4 KiB pages). It is some seconds of messages as fast as they
/// can come, so that searches have their turns in between.
const HELD_PAGES: i32 = 16 << 10;

/// The same in bytes.
pub(crate) const HELD_BYTES: u64 = 64 << 20;

/// Pages that the log grows by while searches end, before all questions are cut off (192 MiB): what comes in the ten
/// seconds that a search has.
const CUT_OFF_PAGES: i32 = 48 << 10;

/// How long the gate stays closed if the writer does not open it, because no message comes any more: somewhat longer than
/// a search can take.
const CLOSED_TIME_MAX: Duration = READ_TIME_MAX.saturating_add(Duration::from_secs(2));

/// How long a writer waits for look-ups to end. What comes in waits as long.
const RESTART_WAIT_MAX: Duration = Duration::from_millis(250);

/// Who writes a log, and keeps it bounded.
pub(crate) struct LogKeeper {
    gate: LogGate,
    /// From when on the gate is closed.
    held_from_pages: i32,
    /// Whether it is.
    has_closed: bool,
}

impl LogKeeper {
    pub(crate) fn new(gate: LogGate) -> Self {
        Self { gate, held_from_pages: HELD_PAGES, has_closed: false }
    }

    /// To be called now and then, also while the log is short, with the pages that it has. `restart` moves all of the log, waiting for up to
    /// [`RESTART_WAIT_MAX`], and tells whether it begins anew; so does this.
    pub(crate) fn keep(&mut self, n_pages: i32, mut restart: impl FnMut() -> bool) -> bool {
        if n_pages < self.held_from_pages {
            if n_pages < HELD_PAGES {
                self.held_from_pages = HELD_PAGES;
            }
            self.open();
            return false;
        }
        self.gate.close();
        self.has_closed = true;
        if self.gate.n_searches() > 0 {
            if n_pages < self.held_from_pages.saturating_add(CUT_OFF_PAGES) {
                return false;
            }
            self.gate.cut_off();
        }
        let is_anew = restart() || {
            self.gate.cut_off();
            restart()
        };
        // If it does not begin anew even so, another process reads from it, for nobody knows how long.
        self.held_from_pages = if is_anew { HELD_PAGES } else { n_pages.saturating_add(HELD_PAGES) };
        self.open();
        is_anew
    }

    fn open(&mut self) {
        if mem::take(&mut self.has_closed) {
            self.gate.open();
        }
    }
}

/// The gates of the logs that a question reads from.
#[derive(Clone)]
pub(crate) struct Logs {
    /// That of the database.
    pub(crate) messages: LogGate,
    /// That of the index of texts.
    pub(crate) texts: LogGate,
}

impl Logs {
    pub(crate) fn new() -> Self {
        Self { messages: LogGate::new(), texts: LogGate::new() }
    }
}

/// Lets searches begin, or not. A clone is the same.
#[derive(Clone)]
pub(crate) struct LogGate(Arc<State>);

struct State {
    /// Until when it is closed.
    closed_until: watch::Sender<Option<Instant>>,
    n_searches: AtomicUsize,
    /// How many times all questions were cut off.
    n_cuts: AtomicU64,
}

impl LogGate {
    pub(crate) fn new() -> Self {
        let closed_until = watch::Sender::new(None);
        Self(Arc::new(State { closed_until, n_searches: AtomicUsize::new(0), n_cuts: AtomicU64::new(0) }))
    }

    /// No search begins any more.
    fn close(&self) {
        self.0.closed_until.send_if_modified(|until| {
            let is_closed = until.is_some_and(|until| Instant::now() < until);
            if !is_closed {
                *until = Some(Instant::now() + CLOSED_TIME_MAX);
            }
            !is_closed
        });
    }

    /// Searches begin again.
    fn open(&self) {
        self.0.closed_until.send_if_modified(|until| until.take().is_some());
    }

    /// Searches under way.
    fn n_searches(&self) -> usize {
        self.0.n_searches.load(Ordering::SeqCst)
    }

    /// All questions under way end soon, without an answer.
    fn cut_off(&self) {
        self.0.n_cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until searches may begin.
    pub(crate) async fn opened(&self) {
        let mut closed_until = self.0.closed_until.subscribe();
        loop {
            let Some(until) = *closed_until.borrow_and_update() else { return };
            if timeout_at(until, closed_until.changed()).await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed_until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// A search is under way until what is returned is dropped.
    pub(crate) fn search(&self) -> Searching {
        self.0.n_searches.fetch_add(1, Ordering::SeqCst);
        Searching(self.clone())
    }

    /// Tells, whenever it is asked, whether a question that begins now was cut off.
    pub(crate) fn is_cut_off(&self) -> impl Fn() -> bool + Send + use<> {
        let gate = self.clone();
        let n_cuts = gate.0.n_cuts.load(Ordering::SeqCst);
        move || gate.0.n_cuts.load(Ordering::Relaxed) > n_cuts
    }
}

/// A search under way.
pub(crate) struct Searching(LogGate);

impl Drop for Searching {
    fn drop(&mut self) {
        self.0.0.n_searches.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A way to move a log into its database.
#[derive(Clone, Copy)]
pub(crate) enum Checkpoint {
    /// Without waiting for anybody: what is still read stays.
    Passive,
    /// All of it, waiting for up to [`RESTART_WAIT_MAX`], so that it begins anew with the next write.
    Restart,
    /// The same, and at once: its file is empty after that.
    Truncate,
}

/// Moves a log; whether nobody was in the way.
pub(crate) fn checkpoint(db: &Connection, how: Checkpoint) -> rusqlite::Result<bool> {
    let sql = match how {
        Checkpoint::Passive => "PRAGMA wal_checkpoint(passive)",
        Checkpoint::Restart => "PRAGMA wal_checkpoint(restart)",
        Checkpoint::Truncate => "PRAGMA wal_checkpoint(truncate)",
    };
    db.busy_timeout(RESTART_WAIT_MAX)?;
    let is_blocked = db.query_row(sql, [], |row| row.get::<_, bool>(0));
    db.busy_timeout(BUSY_WAIT_MAX)?;
    is_blocked.map(|is_blocked| !is_blocked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_closed_until_the_log_begins_anew() {
        let gate = LogGate::new();
        let mut keeper = LogKeeper::new(gate.clone());
        let search = gate.search();
        assert!(!keeper.keep(HELD_PAGES - 1, || unreachable!("it is short")) && !gate.is_closed());
        assert!(!keeper.keep(HELD_PAGES, || unreachable!("a search is under way")) && gate.is_closed());
        drop(search);
        assert!(keeper.keep(HELD_PAGES + 1, || true) && !gate.is_closed());
    }

    /// SQLite may begin it anew by itself, as soon as the last search has ended.
    #[test]
    fn the_gate_is_opened_when_the_log_is_short_again() {
        let gate = LogGate::new();
        let mut keeper = LogKeeper::new(gate.clone());
        let _search = gate.search();
        assert!(!keeper.keep(HELD_PAGES, || unreachable!("a search is under way")) && gate.is_closed());
        assert!(!keeper.keep(1, || unreachable!("it is short")) && !gate.is_closed());
    }

    #[test]
    fn questions_are_cut_off_before_the_log_is_too_long_and_another_process_is_not_waited_for() {
        let gate = LogGate::new();
        let mut keeper = LogKeeper::new(gate.clone());
        let (search, is_cut_off) = (gate.search(), gate.is_cut_off());
        assert!(!keeper.keep(HELD_PAGES + CUT_OFF_PAGES - 1, || unreachable!("a search is under way")));
        assert!(!is_cut_off());
        assert!(keeper.keep(HELD_PAGES + CUT_OFF_PAGES, || true) && is_cut_off());
        drop(search);
        let mut n_restarts = 0;
        let mut blocked = || {
            n_restarts += 1;
            false
        };
        assert!(!keeper.keep(HELD_PAGES, &mut blocked) && !gate.is_closed());
        assert!(!keeper.keep(2 * HELD_PAGES - 1, &mut blocked) && !gate.is_closed());
        assert!(!keeper.keep(2 * HELD_PAGES, &mut blocked) && !gate.is_closed());
        assert_eq!(n_restarts, 4);
    }
}
