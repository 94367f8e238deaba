//! One connection: when it is read, and how much at once.
//!
//! actix-http (3.20) reads up to 128 KiB ahead while a request is being answered, and then parses all the requests
//! in it at once: some 10 KiB for each of 25 bytes. It times a connection's idling after an answer, but neither a
//! later head of which a byte has come, nor the rest of a body that was refused, nor the reading of an answer. So a
//! [`Connection`] stands between actix-http and the socket: the client sends a request, then the service answers it.
//! Of what the client sends during the answer a little waits here and the rest in the kernel, which holds the client
//! up. actix-http is given one request at a time, and only such as it takes: see [`head`](crate::transport::head) and
//! [`chunks`](crate::transport::chunks).

mod read_body;
mod read_head;
mod stage;

use std::io;
use std::mem;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use self::stage::Stage;
use crate::limits::share::Share;
use crate::transport::exchange::Exchange;
use crate::transport::head::BadHead;
use crate::transport::large_heads::Heads;
use crate::transport::permits::Permit;
use crate::transport::socket::Socket;
use crate::transport::time_limits::{CLIENT_TIME_MAX, HEAD_TIME_MAX};

/// Bytes read at once: most webhooks whole. What follows a request in them is kept until the request is answered.
const READ_BYTES_MAX: usize = 1 << 10;

/// Request that actix-http is given in place of a head that is not served, so that it is answered, logged and counted as
/// every request is. It claims a body that does not end: then actix-http reads for a while what the client still
/// sends, and the client can read the answer.
const BAD_HEAD: &[u8] = b"- * HTTP/1.1\r\nHost: -\r\nContent-Length: 9223372036854775807\r\n\r\n";

/// Connection that is read one request at a time.
pub(crate) struct Connection<IO> {
    io: IO,
    peer: IpAddr,
    exchange: Rc<Exchange>,
    stage: Stage,
    /// Bytes that were read and are not handed over yet.
    ahead: BytesMut,
    /// Number of the bytes ahead that belong to the request that is being handed over.
    ahead_bytes_due: usize,
    heads: Heads,
    /// Memory of a large head, until its request is answered.
    head_memory: Option<Share>,
    /// Rest of the interim answer (100) that is sent before the body is read.
    interim: &'static [u8],
    /// The last read was a full one: other tasks run before the next.
    has_read_much: bool,
    /// No request has come yet.
    is_first: bool,
    /// The client does not read what is sent to it, and so is not read either.
    is_write_blocked: bool,
    timer: Pin<Box<Sleep>>,
}

impl<IO> Connection<IO> {
    pub(crate) fn new(io: IO, peer: IpAddr, permit: Permit, heads: Heads) -> Self {
        Self {
            io,
            peer,
            exchange: Exchange::new(permit),
            stage: Stage::Head,
            ahead: BytesMut::new(),
            ahead_bytes_due: 0,
            heads,
            head_memory: None,
            interim: b"",
            has_read_much: false,
            is_first: true,
            is_write_blocked: false,
            timer: Box::pin(sleep_until(Instant::now() + HEAD_TIME_MAX)),
        }
    }

    pub(crate) fn exchange(&self) -> Rc<Exchange> {
        Rc::clone(&self.exchange)
    }

    /// Ready once the client's time is over.
    fn poll_too_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The timer is reset only if it is due too late or has run out: most requests do not touch it.
        if let Some(deadline) = self.exchange.deadline.get()
            && deadline < self.timer.deadline()
        {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let deadline = self.exchange.deadline.get().unwrap_or(now + CLIENT_TIME_MAX);
            if deadline <= now {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Returns true if the client has not sent all of the first head, or of a later head that it has begun.
    fn owes_head(&self) -> bool {
        let has_begun = self.is_first || !self.ahead.is_empty();
        has_begun && !self.exchange.is_answering.get() && matches!(self.stage, Stage::Head)
    }

    /// Hands over bytes of the request that were read ahead; returns false if there are none.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let n_bytes = self.ahead_bytes_due.min(buf.remaining());
        if n_bytes == 0 {
            return false;
        }
        buf.put_slice(&self.ahead.split_to(n_bytes));
        self.ahead_bytes_due -= n_bytes;
        if self.ahead.is_empty() {
            // An idle connection has no buffer.
            self.ahead = BytesMut::new();
        }
        true
    }

    /// Gives actix-http [`BAD_HEAD`] in place of a head that is not served, and reads no further request.
    fn refuse(&mut self, bad_head: BadHead) {
        self.exchange.bad_head.set(Some(bad_head));
        self.exchange.begin_answer(true);
        self.stage = Stage::Rest;
        self.head_memory = None;
        self.ahead = BytesMut::from(BAD_HEAD);
        self.ahead_bytes_due = self.ahead.len();
    }

    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.exchange.wrote(written.is_pending());
        if written.is_pending() {
            self.is_write_blocked = true;
            self.exchange.permit.waits();
            if self.exchange.permit.poll_told_to_go(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        } else if mem::take(&mut self.is_write_blocked) {
            if self.exchange.is_answering.get() {
                self.exchange.permit.works();
            }
            self.exchange.wake_reader();
        }
        written
    }
}

impl<IO: Socket> AsyncRead for Connection<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.poll_too_late(cx).is_ready() {
            if !this.owes_head() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            this.refuse(BadHead::TooSlow { secs: HEAD_TIME_MAX.as_secs() });
        }
        if this.hand_over(buf) {
            return Poll::Ready(Ok(()));
        }
        if mem::take(&mut this.has_read_much) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.exchange.is_watched.get() && this.io.has_hung_up() {
            this.exchange.has_hung_up.set(true);
        }
        if this.exchange.may_read.get() && this.exchange.permit.poll_told_to_go(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        // A handler that reads a body is not given the request behind it.
        let is_awaited = match this.stage {
            Stage::Head => !this.exchange.is_answering.get(),
            _ => this.exchange.may_read.get(),
        };
        if this.is_write_blocked || !is_awaited {
            this.exchange.reader.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        match this.stage {
            Stage::Head => this.poll_head(cx, buf),
            Stage::Body(_) | Stage::Chunks(_) | Stage::Rest => this.poll_body(cx, buf),
            Stage::End => Poll::Ready(Ok(())),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.poll_too_late(cx).is_ready() && !this.owes_head() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.wrote(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
