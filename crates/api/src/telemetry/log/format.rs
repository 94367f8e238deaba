//! Format of a line: the keys that every line has, and no character that acts on a terminal.

use std::io::{self, Write};
use std::sync::Arc;

use adapters::clock::SystemClock;
use domain::time::Clock;
use slog::{KV, Level, Record, Serializer};

use super::queue::Lines;
use crate::telemetry::printable::printable_json;

/// Control character of ASCII that follows the printable ones.
const DELETE: u8 = 0x7f;

/// Line that is being formatted; a flush ends it.
pub(super) struct Line {
    bytes: Vec<u8>,
    lines: Arc<Lines>,
}

impl Line {
    /// Returns an empty line of a queue.
    pub(super) fn new(lines: Arc<Lines>) -> Self {
        Self { bytes: Vec::with_capacity(512), lines }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // JSON escapes only C0, and a terminal acts on other characters, too.
        if self.bytes.is_ascii() && !self.bytes.contains(&DELETE) {
            self.lines.push(&self.bytes);
        } else {
            self.lines.push(printable_json(&String::from_utf8_lossy(&self.bytes)).as_bytes());
        }
        self.bytes.clear();
        Ok(())
    }
}

/// Keys of every line: `ts`, `level` and, where there is one, `msg`.
pub(super) struct BaseKeys(pub(super) SystemClock);

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

/// Returns the name of a level, as the log and `LOG_LEVEL` use it.
pub(super) fn name_of(level: Level) -> &'static str {
    match level {
        Level::Critical | Level::Error => "ERROR",
        Level::Warning => "WARN",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}
