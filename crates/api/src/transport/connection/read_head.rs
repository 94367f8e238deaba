//! Reading of a request's head, until it is whole or refused.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use super::stage::Stage;
use super::{Connection, READ_BYTES_MAX};
use crate::limits::share::Share;
use crate::transport::chunks::{Chunks, WrongAt};
use crate::transport::head::{BadHead, Framing, HEAD_BYTES_MAX, Head};
use crate::transport::large_heads::SMALL_HEAD_BYTES_MAX;

/// Interim answer that a client waits for before it sends its body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl<IO: AsyncRead + Unpin> Connection<IO> {
    /// Reads until a head is whole or refused.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if are_empty_lines(&self.ahead) {
            self.ahead.clear();
            self.head_memory = None;
            // Most heads come whole, with their body and nothing else: they go where they are to go at once.
            let bytes_max = buf.remaining().min(READ_BYTES_MAX);
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(bytes_max));
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
            let bytes = part.filled_mut();
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if are_empty_lines(bytes) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.exchange.has_sent();
            if let Ok(Some(head)) = Head::read(bytes)
                && head.keeps_its_length()
            {
                head.write_blanks(bytes);
                let n_bytes = head.n_bytes + self.begin(&head, &bytes[head.n_bytes..]);
                self.ahead.extend_from_slice(&bytes[n_bytes..]);
                buf.advance(n_bytes);
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(bytes);
        }
        loop {
            match self.begin_ahead() {
                Ok(true) => break,
                Ok(false) => {}
                Err(bad_head) => {
                    self.refuse(bad_head);
                    break;
                }
            }
            let mut bytes = [0; READ_BYTES_MAX];
            let mut part = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
            if part.filled().is_empty() {
                self.ahead.clear();
                return Poll::Ready(Ok(()));
            }
            self.exchange.has_sent();
            self.ahead.extend_from_slice(part.filled());
        }
        self.hand_over(buf);
        Poll::Ready(Ok(()))
    }

    /// Begins the request whose head was read ahead; returns false if more of the head has to come.
    fn begin_ahead(&mut self) -> Result<bool, BadHead> {
        let Some(head) = Head::read(&self.ahead)? else {
            let n_bytes = self.ahead.len();
            if n_bytes >= HEAD_BYTES_MAX {
                return Err(BadHead::TooLarge);
            }
            let counted = SMALL_HEAD_BYTES_MAX + self.head_memory.as_ref().map_or(0, Share::n);
            let more = n_bytes.saturating_sub(counted);
            if more > 0 {
                let has_room = match &mut self.head_memory {
                    Some(share) => share.grow(more),
                    none => none.insert(self.heads.take(self.peer, more).ok_or(BadHead::Overloaded)?).n() > 0,
                };
                if !has_room {
                    return Err(BadHead::Overloaded);
                }
            }
            return Ok(false);
        };
        // The last read may have brought it to its end beyond the bound, and then actix-http's libraries have some of their own.
        if head.n_bytes > HEAD_BYTES_MAX {
            return Err(BadHead::TooLarge);
        }
        let mut bytes = mem::take(&mut self.ahead);
        head.write_blanks(&mut bytes);
        let body = bytes.split_off(head.n_bytes);
        if !head.keeps_its_length() {
            bytes = BytesMut::from(&head.with_target_encoded(&bytes)[..]);
        }
        self.ahead_bytes_due = bytes.len() + self.begin(&head, &body);
        bytes.unsplit(body);
        self.ahead = bytes;
        Ok(true)
    }

    /// Begins a request of which `body` has come already; returns how much of that is its own.
    fn begin(&mut self, head: &Head, body: &[u8]) -> usize {
        let (stage, n_bytes) = match head.framing {
            Framing::Length(length) => {
                let n_bytes = usize::try_from(length).unwrap_or(usize::MAX).min(body.len());
                (Stage::Body(length - n_bytes as u64).unless_ended(), n_bytes)
            }
            Framing::Chunked => {
                let mut chunks = Chunks::new();
                match chunks.read(body) {
                    Ok(n_bytes) => (Stage::Chunks(chunks).unless_ended(), n_bytes),
                    Err(WrongAt(n_bytes)) => (Stage::End, n_bytes),
                }
            }
        };
        // A client that has sent a part of the body does not wait.
        self.interim = if head.expects_continue && body.is_empty() { CONTINUE } else { b"" };
        self.stage = stage;
        self.is_first = false;
        self.exchange.begin_answer(!matches!(self.stage, Stage::Head));
        n_bytes
    }
}

/// Returns true for the empty lines that some senders put behind a body. No head begins with one (RFC 9112,
/// section 2.2).
fn are_empty_lines(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}
