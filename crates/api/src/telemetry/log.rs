//! The log: one JSON object a line on standard output.
//!
//! Lines are put together where they arise and written by a thread of their own, many at a time, so
//! that a request does not wait for a pipe. What waits is bounded. If nobody reads the pipe a request waits
//! for it, because a line for each is promised, but not for long: a log that is stuck must not stop the
//! service. Lines are then lost, and counted, as they are when writing fails; what is written is whole lines.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use adapters::clock::SystemClock;
use domain::time::Clock;
use prometheus::IntCounter;
use slog::{Drain, Filter, KV, Level, Logger, OwnedKV, Record, Serializer};

use crate::telemetry::printable::printable_json;

/// Lines that may wait, in bytes: some ten thousand, a fifth of a second at the fastest.
const WAITING_BYTES_MAX: usize = 2 << 20;

/// How long lines gather before they are written: to wake the thread that writes for each of thousands a second
/// would cost as much as all else that a request takes.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// Lines that are written without waiting for more, in bytes.
const GATHER_BYTES_MAX: usize = 256 << 10;

/// How long a line waits for its place. After the first that did not get one, lines are lost at once until
/// something is read again.
const LINE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long the end of the process waits for what was logged to be read.
const END_WAIT_MAX: Duration = Duration::from_secs(1);

/// Ends the log when it is dropped: all that was logged is written by then, if somebody reads it.
pub struct LogGuard {
    lines: Arc<Lines>,
    level: Level,
    is_debug: Arc<AtomicBool>,
}

/// Starts to log to `out` what is at `level` or above it; `lost` counts the lines that were not.
///
/// # Errors
/// No thread can be started.
pub fn start(
    level: Level,
    out: impl Write + Send + 'static,
    lost: IntCounter,
) -> io::Result<(Logger, LogGuard)> {
    let lines = Arc::new(Lines { waiting: Mutex::default(), changed: Condvar::new(), lost });
    let writing = Arc::clone(&lines);
    thread::Builder::new().name("log".to_owned()).spawn(move || writing.write_all_to(out))?;
    let line = Line { bytes: Vec::with_capacity(512), lines: Arc::clone(&lines) };
    let json =
        slog_json::Json::new(line).add_key_value(OwnedKV(BaseKeys(SystemClock))).set_flush(true).build();
    let is_debug = Arc::new(AtomicBool::new(false));
    let guard = LogGuard { lines, level, is_debug: Arc::clone(&is_debug) };
    let is_logged =
        move |record: &Record<'_>| record.level().is_at_least(level) || is_debug.load(Ordering::Relaxed);
    let drain = Filter::new(Mutex::new(json), is_logged).ignore_res();
    Ok((Logger::root(drain, slog::o!()), guard))
}

impl LogGuard {
    /// Logs everything from now on, or again only what is at the level that the log was started with or above it.
    pub fn toggle_debug(&self, log: &Logger) {
        let is_debug = !self.is_debug.load(Ordering::Relaxed);
        // In both directions it says so while it logs everything.
        self.is_debug.store(true, Ordering::Relaxed);
        let level = if is_debug { Level::Debug } else { self.level };
        slog::info!(log, "log level {} from now on", name_of(level));
        self.is_debug.store(is_debug, Ordering::Relaxed);
    }
}

/// A level as the log and `LOG_LEVEL` name it.
fn name_of(level: Level) -> &'static str {
    match level {
        Level::Critical | Level::Error => "ERROR",
        Level::Warning => "WARN",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.lines.lock().stage = Stage::Ending;
        self.lines.changed.notify_all();
        drop(self.lines.wait_while(END_WAIT_MAX, |waiting| waiting.stage != Stage::Ended));
    }
}

/// `ts`, `level` and, where there is one, `msg`: the keys of every line.
struct BaseKeys(SystemClock);

impl KV for BaseKeys {
    fn serialize(&self, record: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        serializer.emit_arguments("ts", &format_args!("{}", self.0.now()))?;
        serializer.emit_str("level", name_of(record.level()))?;
        match record.msg().as_str() {
            Some("") => Ok(()),
            _ => serializer.emit_arguments("msg", record.msg()),
        }
    }
}

/// The one character of ASCII beyond the printable ones.
const DELETE: u8 = 0x7f;

/// The line that is being put together; a flush ends it.
struct Line {
    bytes: Vec<u8>,
    lines: Arc<Lines>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // JSON has no more to escape than C0, which is not all that a terminal minds.
        if self.bytes.is_ascii() && !self.bytes.contains(&DELETE) {
            self.lines.push(&self.bytes);
        } else {
            self.lines.push(printable_json(&String::from_utf8_lossy(&self.bytes)).as_bytes());
        }
        self.bytes.clear();
        Ok(())
    }
}

/// The lines that wait to be written.
struct Lines {
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
    /// What waits is still to be written.
    Ending,
    Ended,
}

impl Lines {
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

    fn push(&self, line: &[u8]) {
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

    fn write_all_to(&self, out: impl Write) {
        let mut output = Output { out, begun: Vec::new() };
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

/// Where the lines go, and what is left of one that was written in part.
struct Output<W> {
    out: W,
    begun: Vec<u8>,
}

impl<W: Write> Output<W> {
    /// Writes whole lines, and returns how many were lost: those that were not begun when writing failed. One that
    /// was is ended before any other, as soon as something can be written again.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let n_bytes = write_some(&mut self.out, &self.begun);
        self.begun.drain(..n_bytes);
        if !self.begun.is_empty() {
            return n_lines(lines);
        }
        let n_bytes = write_some(&mut self.out, lines);
        let is_whole = n_bytes == 0 || lines[n_bytes - 1] == b'\n';
        let rest = &lines[n_bytes..];
        let end = rest.iter().position(|byte| *byte == b'\n').filter(|_| !is_whole);
        let (begun, lost) = rest.split_at(end.map_or(0, |end| end + 1));
        self.begun.extend_from_slice(begun);
        n_lines(lost)
    }
}

/// Writes until nothing is left or an error comes, and returns how many bytes were written.
fn write_some(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut n_written = 0;
    while n_written < bytes.len() {
        match out.write(&bytes[n_written..]) {
            Ok(n) if n > 0 => n_written += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // Whatever it is, a log that can't be written must not end the service.
            Ok(_) | Err(_) => break,
        }
    }
    n_written
}

fn n_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Pipe(mpsc::Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: Level, log: impl FnOnce(&Logger)) -> Vec<serde_json::Value> {
        let (pipe, written) = mpsc::channel();
        let (logger, guard) = start(level, Pipe(pipe), lost()).unwrap();
        log(&logger);
        drop(guard);
        let text = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn lost() -> IntCounter {
        IntCounter::new("lost", "lines").unwrap()
    }

    /// Goal: a log that is stuck costs lines, not the service; what is lost is counted; and it goes on when it
    /// is read again. Method: a pipe that takes nothing until it is told to.
    #[test]
    fn a_log_that_nobody_reads_loses_lines_and_counts_them() {
        struct Stuck(mpsc::Receiver<()>, Pipe);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                // Once the other end is gone it takes everything.
                let _ = self.0.recv();
                self.1.write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (unstick, stuck) = mpsc::channel();
        let (pipe, written) = mpsc::channel();
        let lost = lost();
        let (log, guard) = start(Level::Info, Stuck(stuck, Pipe(pipe)), lost.clone()).unwrap();
        let padding = "x".repeat(100_000);
        for n in 0..60 {
            slog::info!(log, "line"; "n" => n, "padding" => &padding);
        }
        drop(unstick);
        drop(guard);
        let n_written = written.try_iter().flatten().filter(|byte| *byte == b'\n').count() as u64;
        assert!(lost.get() > 0);
        assert_eq!(n_written + lost.get(), 60);
    }

    /// Goal: a disk that is full and then is not leaves no torn line, and every line is written or counted. Method: an
    /// output that takes some bytes, then none for two writes, and so on.
    #[test]
    fn a_log_that_fails_in_between_has_whole_lines_only() {
        struct Failing(usize, Pipe);
        impl Write for Failing {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 % 4 >= 2 {
                    return Err(ErrorKind::StorageFull.into());
                }
                self.1.write(&bytes[..bytes.len().min(self.0 % 100)])
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (pipe, written) = mpsc::channel();
        let mut output = Output { out: Failing(0, Pipe(pipe)), begun: Vec::new() };
        let mut n_lost = 0;
        for n in 0..1000 {
            n_lost += output.write(format!("<{}>\n", n * n).repeat(n % 7 + 1).as_bytes());
        }
        let n_begun = n_lines(&output.begun);
        drop(output);
        let text = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let n_written = whole.inspect(|line| assert!(line.starts_with('<') && line.ends_with(">\n"))).count();
        let n_all: usize = (0..1000).map(|n| n % 7 + 1).sum();
        assert!(n_written > 100 && n_lost > 100, "{n_written} written, {n_lost} lost");
        assert_eq!(n_written as u64 + n_lost + n_begun, n_all as u64);
    }

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it() {
        let forged = "x\"}\n{\"level\":\"INFO\"\u{2028}\u{0}";
        let lines = logged(Level::Info, |log| slog::info!(log, "{}", forged; "key" => forged));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["msg"], forged);
        assert_eq!(lines[0]["key"], forged);
    }

    #[test]
    fn what_is_below_the_level_is_not_logged() {
        let lines = logged(Level::Warning, |log| {
            slog::debug!(log, "d");
            slog::info!(log, "i");
            slog::warn!(log, "w");
            slog::error!(log, "e");
        });
        let levels: Vec<_> = lines.iter().map(|l| l["level"].as_str().unwrap()).collect();
        assert_eq!(levels, ["WARN", "ERROR"]);
    }

    #[test]
    fn every_line_is_written_before_the_log_ends() {
        let lines = logged(Level::Info, |log| {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for n in 0..5000 {
                            slog::info!(log, "line"; "n" => n, "padding" => "x".repeat(200));
                        }
                    });
                }
            });
        });
        assert_eq!(lines.len(), 20_000, "four megabytes, twice what may wait");
    }
}
