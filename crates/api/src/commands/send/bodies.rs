//! Bodies of the messages to send: from arguments, a JSON file, or lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use adapters::clock::SystemClock;
use domain::time::Clock;
use serde_json::json;

use super::Args;
use crate::config::BODY_BYTES_MAX_LIMIT;

/// Bodies to send, one after the other.
pub(super) struct Bodies<R> {
    from: BufReader<R>,
    /// All of it is one body; else each line that is not empty.
    is_one: bool,
    ended: bool,
}

impl<R: Read> Bodies<R> {
    /// Returns the bodies in a source.
    pub(super) fn of(source: R, is_one: bool) -> Self {
        Self { from: BufReader::new(source), is_one, ended: false }
    }

    /// Reads the next body, if there is one.
    ///
    /// # Errors
    /// The source can't be read, or a line is too long.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.ended {
            let mut body = Vec::new();
            let mut bounded = (&mut self.from).take(BODY_BYTES_MAX_LIMIT as u64 + 1);
            if self.is_one {
                bounded.read_to_end(&mut body)?;
                self.ended = true;
                return Ok(Some(body));
            }
            self.ended = bounded.read_until(b'\n', &mut body)? == 0;
            if body.len() > BODY_BYTES_MAX_LIMIT {
                return Err(io::Error::other(format!("a line has more than {BODY_BYTES_MAX_LIMIT} bytes")));
            }
            let line = body.trim_ascii_end();
            if !line.is_empty() {
                return Ok(Some(line.to_vec()));
            }
        }
        Ok(None)
    }
}

/// Returns the message that the arguments describe.
pub(super) fn one_message(args: &Args, from: Option<&str>) -> Vec<u8> {
    let new_id = || uuid::Uuid::new_v4().to_string();
    let message_id = args.message_id.clone().unwrap_or_else(new_id);
    let ts = args.ts.clone().unwrap_or_else(|| SystemClock.now().to_string());
    json!({"message_id": message_id, "from": from, "to": args.to, "ts": ts, "text": args.text})
        .to_string()
        .into_bytes()
}

/// Returns true if a file is one message, and false if each line of it is one.
pub(super) fn is_one_message(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// Counts what [`Bodies`] will yield, for the progress bar, and goes back to the start of the file.
pub(super) fn n_messages(file: &mut File, is_one: bool) -> io::Result<u64> {
    let mut bodies = Bodies::of(&mut *file, is_one);
    let mut n = 0;
    while bodies.next()?.is_some() {
        n += 1;
    }
    file.rewind()?;
    Ok(n)
}
