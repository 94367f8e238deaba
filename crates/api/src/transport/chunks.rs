//! The framing of a body in chunks (RFC 9112, section 7.1): where it ends, and whether it is right.
//!
//! actix-http closes a connection without an answer when a chunk's size is wrong. What is found wrong here is not
//! given to it: the body then breaks off, which is answered.

/// Position of the next byte in a body in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    SizeStart,
    Size,
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LineStart,
    Line,
    LineLf,
    EndLf,
    End,
}

/// Parser of a body in chunks, which keeps its position between reads.
#[derive(Debug)]
pub(crate) struct Chunks {
    position: Position,
    /// Bytes that the chunk still has.
    rest: u64,
}

/// The framing is wrong from this byte on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrongAt(pub(crate) usize);

impl Chunks {
    pub(crate) fn new() -> Self {
        Self { position: Position::SizeStart, rest: 0 }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.position == Position::End
    }

    /// Looks at the next bytes; returns how many of them are the body's: all, unless it ends among them.
    ///
    /// # Errors
    /// [`WrongAt`].
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<usize, WrongAt> {
        let mut at = 0;
        while at < bytes.len() && !self.has_ended() {
            if self.position == Position::Data {
                let n_bytes = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.rest -= n_bytes as u64;
                at += n_bytes;
                if self.rest == 0 {
                    self.position = Position::DataCr;
                }
            } else {
                self.position = self.next(bytes[at]).ok_or(WrongAt(at))?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Returns the position after `byte`; `None` if `byte` is not valid at the present one.
    fn next(&mut self, byte: u8) -> Option<Position> {
        // A line of an extension or a trailer; RFC 9110, section 5.5.
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        Some(match (self.position, byte) {
            (Position::SizeStart | Position::Size, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                self.rest = self.rest.checked_mul(16)? + u64::from(digit);
                Position::Size
            }
            (Position::Size | Position::SizeSpace, b'\t' | b' ') => Position::SizeSpace,
            (Position::Size | Position::SizeSpace, b';') => Position::Extension,
            (Position::Size | Position::SizeSpace | Position::Extension, b'\r') => Position::SizeLf,
            (Position::Extension, _) if is_text => Position::Extension,
            (Position::SizeLf, b'\n') if self.rest == 0 => Position::LineStart,
            (Position::SizeLf, b'\n') => Position::Data,
            (Position::DataCr, b'\r') => Position::DataLf,
            (Position::DataLf, b'\n') => Position::SizeStart,
            (Position::LineStart, b'\r') => Position::EndLf,
            (Position::Line, b'\r') => Position::LineLf,
            (Position::LineStart | Position::Line, _) if is_text => Position::Line,
            (Position::LineLf, b'\n') => Position::LineStart,
            (Position::EndLf, b'\n') => Position::End,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_it_does_however_it_comes() {
        let body = b"5\r\nhello\r\n1;name=\"value\"\r\n!\r\n0a \t\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        let bytes = [&body[..], b"GET / HTTP/1.1\r\n"].concat();
        for part in 1..=bytes.len() {
            let mut chunks = Chunks::new();
            let mut n_bytes = 0;
            for bytes in bytes.chunks(part) {
                n_bytes += chunks.read(bytes).unwrap();
                if chunks.has_ended() {
                    break;
                }
            }
            assert_eq!(n_bytes, body.len(), "in parts of {part}");
        }
    }

    #[test]
    fn what_is_wrong_is_found_at_its_first_byte() {
        for (bytes, at) in [
            (&b"zz\r\n"[..], 0),
            (b"\r\n", 0),
            (b"5\nhello", 1),
            (b"5x\r\n", 1),
            (b"5 5\r\n", 2),
            (b"-1\r\n", 0),
            (b"5\r\nhelloX", 8),
            (b"5\r\nhello\n", 8),
            (b"5;a\nb\r\n", 3),
            (b"0\r\n\n", 3),
            (b"0\r\nTrailer: x\n", 13),
            (b"00000000000000001ffffffffffffffff\r\n", 32),
        ] {
            assert_eq!(Chunks::new().read(bytes), Err(WrongAt(at)), "{}", bytes.escape_ascii());
        }
    }
}
