//! The log: one JSON object a line on standard output.
//!
//! Each line is formatted by the thread that logs it and written by a thread of its own, many at a time, so that a
//! request does not wait for a pipe. The queue between them is bounded. If nobody reads the pipe, a request waits for
//! it, because a line for each is promised, but only for a second: a log that is stuck must not stop the service.
//! Lines are then lost, and counted, as they are when writing fails. Lines that are written are whole.

mod format;
mod output;
mod queue;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use adapters::clock::SystemClock;
use prometheus::IntCounter;
use slog::{Drain, Filter, Level, Logger, OwnedKV, Record};

use self::format::{BaseKeys, Line, name_of};
use self::queue::Lines;

/// Time that the end of the process waits for the log to be read.
const END_WAIT_MAX: Duration = Duration::from_secs(1);

/// Guard of the log: when it is dropped, every line has been written, if somebody reads them.
pub struct LogGuard {
    lines: Arc<Lines>,
    level: Level,
    is_debug: Arc<AtomicBool>,
}

/// Starts to log lines at `level` or above it to `out`; `lost` counts the lines that could not be written.
///
/// # Errors
/// No thread can be started.
pub fn start(
    level: Level,
    out: impl Write + Send + 'static,
    lost: IntCounter,
) -> io::Result<(Logger, LogGuard)> {
    let lines = Arc::new(Lines::new(lost));
    let writing = Arc::clone(&lines);
    thread::Builder::new().name("log".to_owned()).spawn(move || writing.write_all_to(out))?;
    let line = Line::new(Arc::clone(&lines));
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
    /// Switches between all lines and those at the level that the log was started with or above it.
    pub fn toggle_debug(&self, log: &Logger) {
        let is_debug = !self.is_debug.load(Ordering::Relaxed);
        // In both directions it says so while it logs everything.
        self.is_debug.store(true, Ordering::Relaxed);
        let level = if is_debug { Level::Debug } else { self.level };
        slog::info!(log, "log level {} from now on", name_of(level));
        self.is_debug.store(is_debug, Ordering::Relaxed);
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.lines.end(END_WAIT_MAX);
    }
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
