//! Output of the log: whole lines, even where writing fails in between.

use std::io::{ErrorKind, Write};

/// Destination of the lines, with the rest of a line that was written in part.
pub(super) struct Output<W> {
    out: W,
    begun: Vec<u8>,
}

impl<W: Write> Output<W> {
    /// Returns an output on which nothing has been written.
    pub(super) fn new(out: W) -> Self {
        Self { out, begun: Vec::new() }
    }

    /// Writes whole lines, and returns how many were lost: those that were not begun when writing failed. One that
    /// was is ended before any other, as soon as something can be written again.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
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
    use std::io;

    use super::*;

    /// Goal: a disk that is full and then is not leaves no torn line, and every line is written or counted. Method: an
    /// output that takes some bytes, then none for two writes, and so on.
    #[test]
    fn a_log_that_fails_in_between_has_whole_lines_only() {
        struct Failing(usize, Vec<u8>);
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
        let mut output = Output::new(Failing(0, Vec::new()));
        let mut n_lost = 0;
        for n in 0..1000 {
            n_lost += output.write(format!("<{}>\n", n * n).repeat(n % 7 + 1).as_bytes());
        }
        let n_begun = n_lines(&output.begun);
        let text = String::from_utf8(output.out.1).unwrap();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let n_written = whole.inspect(|line| assert!(line.starts_with('<') && line.ends_with(">\n"))).count();
        let n_all: usize = (0..1000).map(|n| n % 7 + 1).sum();
        assert!(n_written > 100 && n_lost > 100, "{n_written} written, {n_lost} lost");
        assert_eq!(n_written as u64 + n_lost + n_begun, n_all as u64);
    }
}
