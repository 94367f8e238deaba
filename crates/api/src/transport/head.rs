//! The head of a request, before actix-http (3.20) sees it: where it ends, how the body is framed, and whether
//! actix-http would take it.
//!
//! actix-http answers a head that it does not take with a bare 400, past the log and the metrics, so it is not given
//! one. A head that it reads otherwise than the standards say is rewritten in the way that both understand: an `Upgrade`, which is
//! never followed, is ignored (RFC 9110, section 7.8) and doesn't change the framing; `Expect` is answered
//! when the body is wanted; a character that should have been percent-encoded in the target is.

use std::mem::MaybeUninit;
use std::ops::Range;

use actix_web::http::{Method, Uri};
use httparse::{Error as ParseError, Header, Request, Status};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

/// Longest head. The longest `q` that can match has 4,096 characters, which are 48 KiB in percent-encoding.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;

/// Most header fields; actix-http takes no more.
const FIELDS_MAX: usize = 96;

/// Characters that `http::Uri` does not take in a target, though many clients send them unencoded.
const TO_ENCODE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// Framing of the body that follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Number of bytes; 0 if there is no body.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A whole head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) n_bytes: usize,
    pub(crate) framing: Framing,
    /// The client waits with the body until it is wanted.
    pub(crate) expects_continue: bool,
    /// Parts that are overwritten with blanks.
    blank: Vec<Range<usize>>,
    /// The target, if something in it is to be percent-encoded.
    target: Option<Range<usize>>,
}

/// Reason why a head is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// It is not HTTP, or can be read in more than one way.
    #[error("the request is not valid HTTP: {0}")]
    Malformed(&'static str),
    /// It has too many bytes.
    #[error("the head of the request is larger than {HEAD_BYTES_MAX} bytes")]
    TooLarge,
    /// It has too many fields.
    #[error("the request has more than {FIELDS_MAX} header fields")]
    TooManyFields,
    /// It did not come in time.
    #[error("the head of the request did not arrive within {secs} s")]
    TooSlow {
        /// The time that there is.
        secs: u64,
    },
    /// There is no memory for it.
    #[error("too many large request heads at once")]
    Overloaded,
}

impl Head {
    /// Reads a head at the beginning of `bytes`; `None` if it does not end there.
    ///
    /// # Errors
    /// [`BadHead`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, BadHead> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = Request::new(&mut []);
        let n_bytes = match request.parse_with_uninit_headers(bytes, &mut fields) {
            Ok(Status::Complete(n_bytes)) => n_bytes,
            Ok(Status::Partial) => return Ok(None),
            Err(ParseError::TooManyHeaders) => return Err(BadHead::TooManyFields),
            Err(error) => return Err(BadHead::Malformed(why(error))),
        };
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            unreachable!("a whole head has all three");
        };
        let range_of = |part: &[u8]| {
            let start = part.as_ptr().addr() - bytes.as_ptr().addr();
            start..start + part.len()
        };

        let is_http_11 = version == 1;
        let mut head = Self {
            n_bytes,
            framing: Framing::Length(0),
            expects_continue: false,
            blank: Vec::new(),
            target: None,
        };
        let mut fields = Fields::default();
        for Header { name, value } in &*request.headers {
            fields.see(name, value, is_http_11)?;
            if name.eq_ignore_ascii_case("upgrade") {
                head.blank.push(range_of(value));
            } else if name.eq_ignore_ascii_case("connection") {
                head.blank
                    .extend(options(value).filter(|o| o.eq_ignore_ascii_case(b"upgrade")).map(range_of));
            } else if name.eq_ignore_ascii_case("expect") && is_http_11 {
                head.expects_continue |= options(value).any(|o| o.eq_ignore_ascii_case(b"100-continue"));
                head.blank.push(range_of(value));
            }
        }
        if is_http_11 && !fields.has_host {
            return Err(BadHead::Malformed("it has no Host header"));
        }
        head.framing = fields.framing()?;
        if !is_http_11 && method == "POST" && fields.length.is_none() {
            return Err(BadHead::Malformed("it has no Content-Length, which HTTP/1.0 wants for a POST"));
        }
        if Method::from_bytes(method.as_bytes()).is_err() {
            return Err(BadHead::Malformed("its method is none"));
        }
        if !target.bytes().all(is_usual) {
            let encoded = percent_encode(target.as_bytes(), TO_ENCODE).to_string();
            if Uri::try_from(encoded.as_str()).is_err() {
                return Err(BadHead::Malformed("its target is no URI"));
            }
            head.target = (encoded != target).then(|| range_of(target.as_bytes()));
        } else if !target.starts_with('/') && Uri::try_from(target).is_err() {
            return Err(BadHead::Malformed("its target is no URI"));
        }
        Ok(Some(head))
    }

    /// Returns true if the head keeps its length when it is rewritten for actix-http.
    pub(crate) fn keeps_its_length(&self) -> bool {
        self.target.is_none()
    }

    /// Writes blanks over the parts that actix-http must not see. `bytes` begins with the head.
    pub(crate) fn write_blanks(&self, bytes: &mut [u8]) {
        for range in &self.blank {
            bytes[range.clone()].fill(b' ');
        }
    }

    /// The head with its target percent-encoded. `bytes` begins with the head.
    pub(crate) fn with_target_encoded(&self, bytes: &[u8]) -> Vec<u8> {
        let target = self.target.clone().unwrap_or(0..0);
        let mut head = bytes[..target.start].to_vec();
        head.extend(percent_encode(&bytes[target.clone()], TO_ENCODE).flat_map(str::as_bytes));
        head.extend_from_slice(&bytes[target.end..self.n_bytes]);
        head
    }
}

/// The header fields that say how a request is to be read.
#[derive(Default)]
struct Fields {
    has_host: bool,
    length: Option<u64>,
    is_chunked: bool,
}

impl Fields {
    fn see(&mut self, name: &str, value: &[u8], is_http_11: bool) -> Result<(), BadHead> {
        // The lengths of names tell most of them apart.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                if self.has_host {
                    return Err(BadHead::Malformed("it has more than one Host header"));
                }
                self.has_host = true;
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let digits = value.trim_ascii();
                let length = str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
                let length = length.and_then(|digits| digits.parse().ok());
                if length.is_none() || self.length.is_some() {
                    return Err(BadHead::Malformed("its Content-Length is not one number"));
                }
                self.length = length;
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                let is_chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                if !is_chunked || self.is_chunked || !is_http_11 {
                    return Err(BadHead::Malformed(
                        "its Transfer-Encoding is not chunked alone, in HTTP/1.1",
                    ));
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, BadHead> {
        match (self.is_chunked, self.length) {
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
            (true, None) => Ok(Framing::Chunked),
            (true, Some(_)) => {
                Err(BadHead::Malformed("it has both a Content-Length and a Transfer-Encoding"))
            }
        }
    }
}

/// The elements of a header's list.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Bytes of which most targets consist, and which need no second look.
fn is_usual(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/?&=%+-._~:,*!'();@$".contains(&byte)
}

fn why(error: ParseError) -> &'static str {
    match error {
        ParseError::HeaderName => "a header's name is wrong",
        ParseError::HeaderValue => "a header's value is wrong",
        ParseError::NewLine => "a line does not end as it should",
        ParseError::Version => "its version is not HTTP/1.0 or HTTP/1.1",
        _ => "its first line is not METHOD TARGET HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Framing, bool, String), BadHead> {
        let mut bytes = text.as_bytes().to_vec();
        let head = Head::read(&bytes)?.expect("it is whole");
        assert_eq!(head.n_bytes, bytes.len());
        head.write_blanks(&mut bytes);
        let seen = if head.keeps_its_length() { bytes } else { head.with_target_encoded(&bytes) };
        Ok((head.framing, head.expects_continue, String::from_utf8(seen).unwrap()))
    }

    #[test]
    fn an_upgrade_is_made_blank() {
        let (framing, _, seen) = read(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nContent-Length: 5\r\n\r\n",
        )
        .unwrap();
        assert_eq!(framing, Framing::Length(5));
        assert_eq!(
            seen,
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive,        \r\nupgrade:          \r\nContent-Length: 5\r\n\r\n"
        );
    }

    #[test]
    fn what_should_be_percent_encoded_is() {
        let (_, _, seen) = read("GET /messages?q=école&from=\"<`>\" HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(seen, "GET /messages?q=%C3%A9cole&from=%22%3C%60%3E%22 HTTP/1.1\r\nHost: a\r\n\r\n");
        // What is encoded already stays.
        let (_, _, seen) = read("GET /messages?q=%C3%A9%zz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(seen.starts_with("GET /messages?q=%C3%A9%zz HTTP/1.1"));
    }

    #[test]
    fn expectations_are_ours() {
        let (_, expects, seen) = read("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n").unwrap();
        assert!(expects && seen.contains("Expect:             \r\n"), "{seen}");
        let (_, expects, _) =
            read("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n").unwrap();
        assert!(!expects, "HTTP/1.0 has no interim answers");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        let fields = |fields: &str| read(&format!("POST /webhook HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
        for wrong in [
            "Host: b",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -1",
            "Content-Length: 0x5",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity",
        ] {
            assert!(matches!(fields(wrong), Err(BadHead::Malformed(_))), "{wrong}");
        }
        for wrong in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\n\r\n",
            "GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(matches!(read(wrong), Err(BadHead::Malformed(_))), "{wrong}");
        }
        assert_eq!(
            read(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(97))).err(),
            Some(BadHead::TooManyFields)
        );
        assert!(Head::read(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap().is_none());
    }
}
