//! Queue of lines: bounded, and written by one thread.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;

use super::output::Output;

/// Lines that may wait, in bytes: some ten thousand, a fifth of a second at the fastest.
const WAITING_BYTES_MAX: usize = 2 << 20;

/// Time that lines gather before they are written. To wake the writing thread for each of thousands a second would
/// cost as much as the rest of a request.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// Lines that are written without waiting for more, in bytes.
const GATHER_BYTES_MAX: usize = 256 << 10;

/// Time that a line waits for room in the queue. After the first that got none, lines are lost at once until the log
/// is read again.
const LINE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Lines that wait to be written.
pub(super) struct Lines {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    lost: IntCounter,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    stage: Stage,
    /// A line has waited in vain, and nothing was read since.
    is_stuck: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Running,
    /// The lines that wait are still to be written.
    Ending,
    Ended,
}

impl Lines {
    /// Returns an empty queue; `lost` counts the lines that are lost.
    pub(super) fn new(lost: IntCounter) -> Self {
        Self { waiting: Mutex::default(), changed: Condvar::new(), lost }
    }

    /// Ends the log, and waits until its lines are written, for `wait_max` at most.
    pub(super) fn end(&self, wait_max: Duration) {
        self.lock().stage = Stage::Ending;
        self.changed.notify_all();
        drop(self.wait_while(wait_max, |waiting| waiting.stage != Stage::Ended));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `condition` does not hold any more, or for `wait_max`.
    fn wait_while(
        &self,
        wait_max: Duration,
        condition: impl FnMut(&mut Waiting) -> bool,
    ) -> MutexGuard<'_, Waiting> {
        let waited = self.changed.wait_timeout_while(self.lock(), wait_max, condition);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Queues a line, or counts it as lost if there is no room in time.
    pub(super) fn push(&self, line: &[u8]) {
        let is_full = |waiting: &mut Waiting| waiting.bytes.len() >= WAITING_BYTES_MAX && !waiting.is_stuck;
        let mut waiting = self.wait_while(LINE_WAIT_MAX, is_full);
        if waiting.bytes.len() >= WAITING_BYTES_MAX {
            waiting.is_stuck = true;
            self.lost.inc();
            return;
        }
        let n_before = waiting.bytes.len();
        waiting.bytes.extend_from_slice(line);
        let is_awaited =
            n_before == 0 || n_before < GATHER_BYTES_MAX && waiting.bytes.len() >= GATHER_BYTES_MAX;
        drop(waiting);
        if is_awaited {
            self.changed.notify_all();
        }
    }

    /// Writes lines to `out` until the log ends.
    pub(super) fn write_all_to(&self, out: impl Write) {
        let mut output = Output::new(out);
        let mut bytes = Vec::new();
        loop {
            let is_idle = |waiting: &mut Waiting| waiting.bytes.is_empty() && waiting.stage == Stage::Running;
            drop(self.changed.wait_while(self.lock(), is_idle));
            let is_gathering = |waiting: &mut Waiting| {
                waiting.bytes.len() < GATHER_BYTES_MAX && waiting.stage == Stage::Running
            };
            let mut waiting = self.wait_while(GATHER_TIME, is_gathering);
            waiting.is_stuck = false;
            if waiting.bytes.is_empty() {
                waiting.stage = Stage::Ended;
                drop(waiting);
                self.changed.notify_all();
                return;
            }
            std::mem::swap(&mut waiting.bytes, &mut bytes);
            drop(waiting);
            self.changed.notify_all();
            self.lost.inc_by(output.write(&bytes));
            bytes.clear();
        }
    }
}
