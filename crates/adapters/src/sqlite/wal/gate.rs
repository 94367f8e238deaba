//! The gate keeps a write-ahead log bounded while queries overlap.
//!
//! SQLite restarts a log when all of it is in the database file and nobody reads from it. Overlapping queries leave no such
//! moment, and the log grows for as long as they overlap. So a writer with a long log closes the gate: no search starts
//! until the running ones have ended, which takes [`READ_TIME_MAX`] at most. Look-ups go on, because they end within a
//! moment that the writer can wait for. If the log grows by too much until then, queries are cut off.
//!
//! Another process that reads (a backup, a check) is not held back: the log grows until it has ended.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Time that one query may take. While it runs, the log can't restart.
pub(crate) const READ_TIME_MAX: Duration = Duration::from_secs(10);

/// Pages of a log from which on the gate is closed (64 MiB of 4 KiB pages). It fills in some seconds at full
/// load, so that searches run in between.
const HELD_PAGES: i32 = 16 << 10;

/// Bytes of a log from which on the gate is closed.
pub(crate) const HELD_BYTES: u64 = 64 << 20;

/// Pages that the log may grow by while searches end, before all queries are cut off (192 MiB): as much as arrives in the
/// ten seconds that a search has.
const CUT_OFF_PAGES: i32 = 48 << 10;

/// Time that the gate stays closed if the writer does not open it because no message comes any more: somewhat longer than
/// a search can take.
const CLOSED_TIME_MAX: Duration = READ_TIME_MAX.saturating_add(Duration::from_secs(2));

/// The side of the writer, which keeps its log bounded.
pub(crate) struct LogKeeper {
    gate: LogGate,
    /// Pages from which on the gate is closed.
    held_from_pages: i32,
    /// True while the gate is closed.
    has_closed: bool,
}

impl LogKeeper {
    pub(crate) fn new(gate: LogGate) -> Self {
        Self { gate, held_from_pages: HELD_PAGES, has_closed: false }
    }

    /// Closes or opens the gate for a log of `n_pages`; call it now and then, also while the log is short. `restart` moves all
    /// of the log and returns true if the log restarts; so does this.
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
        let has_restarted = restart() || {
            self.gate.cut_off();
            restart()
        };
        // If it does not restart even so, another process reads from it, and nobody knows for how long.
        self.held_from_pages = if has_restarted { HELD_PAGES } else { n_pages.saturating_add(HELD_PAGES) };
        self.open();
        has_restarted
    }

    fn open(&mut self) {
        if mem::take(&mut self.has_closed) {
            self.gate.open();
        }
    }
}

/// The gates of the logs that a query reads from.
#[derive(Clone)]
pub(crate) struct Logs {
    /// Gate of the database's log.
    pub(crate) messages: LogGate,
    /// Gate of the text index's log.
    pub(crate) texts: LogGate,
}

impl Logs {
    pub(crate) fn new() -> Self {
        Self { messages: LogGate::new(), texts: LogGate::new() }
    }
}

/// Lets searches start, or not; a clone is the same gate.
#[derive(Clone)]
pub(crate) struct LogGate(Arc<State>);

struct State {
    /// Time until which it is closed.
    closed_until: watch::Sender<Option<Instant>>,
    n_searches: AtomicUsize,
    /// Times that all queries were cut off.
    n_cuts: AtomicU64,
}

impl LogGate {
    pub(crate) fn new() -> Self {
        let closed_until = watch::Sender::new(None);
        Self(Arc::new(State { closed_until, n_searches: AtomicUsize::new(0), n_cuts: AtomicU64::new(0) }))
    }

    /// Closes the gate: no search starts any more.
    fn close(&self) {
        self.0.closed_until.send_if_modified(|until| {
            let is_closed = until.is_some_and(|until| Instant::now() < until);
            if !is_closed {
                *until = Some(Instant::now() + CLOSED_TIME_MAX);
            }
            !is_closed
        });
    }

    /// Opens the gate: searches start again.
    fn open(&self) {
        self.0.closed_until.send_if_modified(|until| until.take().is_some());
    }

    /// Returns how many searches run.
    fn n_searches(&self) -> usize {
        self.0.n_searches.load(Ordering::SeqCst)
    }

    /// Cuts off all queries that run: they end soon, without an answer.
    fn cut_off(&self) {
        self.0.n_cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until searches may start.
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

    /// Counts a search as running until the returned value is dropped.
    pub(crate) fn search(&self) -> Searching {
        self.0.n_searches.fetch_add(1, Ordering::SeqCst);
        Searching(self.clone())
    }

    /// Returns a function that tells, at any time, whether a query that starts now was cut off.
    pub(crate) fn is_cut_off(&self) -> impl Fn() -> bool + Send + use<> {
        let gate = self.clone();
        let n_cuts = gate.0.n_cuts.load(Ordering::SeqCst);
        move || gate.0.n_cuts.load(Ordering::Relaxed) > n_cuts
    }
}

/// A search that runs.
pub(crate) struct Searching(LogGate);

impl Drop for Searching {
    fn drop(&mut self) {
        self.0.0.n_searches.fetch_sub(1, Ordering::SeqCst);
    }
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
