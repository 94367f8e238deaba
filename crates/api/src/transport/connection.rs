//! One connection: when it is read, how much at once, and how long it may keep us waiting.
//!
//! actix-http (3.20) reads whatever comes, up to 128 KiB ahead, while a request is being answered, and then takes
//! apart all the requests that are in it at once: some 10 KiB for each of 25 bytes. It times a connection's idling
//! after an answer, but neither a later head of which a byte has come, nor the rest of a body that was refused, nor
//! the reading of an answer. So we stand between it and the socket: each side has its turn. The client's is to
//! send a request, ours is to answer it. Of what the client sends meanwhile a little waits here and the rest in the
//! kernel, which holds the client up. actix-http is given one request at a time, and only such as it takes: see
//! [`head`](crate::transport::head) and [`chunks`](crate::transport::chunks).

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::rt::net::{TcpStream, UnixStream};
use actix_web::web::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use crate::limits::share::{Share, Shares};
use crate::transport::chunks::{Chunks, WrongAt};
use crate::transport::head::{BadHead, Framing, HEAD_BYTES_MAX, Head};
use crate::transport::permits::Permit;

/// Bytes read at once: most webhooks whole. What comes in them behind a request waits for its turn.
const READ_BYTES_MAX: usize = 1 << 10;

/// For a head to arrive whole, from the start of the connection or from its first byte.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of a head that every connection may have. What larger ones have beyond is counted in [`Heads`].
const SMALL_HEAD_BYTES_MAX: usize = 4 << 10;

/// Bytes of all large heads.
const HEADS_BYTES_MAX: usize = 16 << 20;

/// Bytes of the large heads from one address.
const CLIENT_HEADS_BYTES_MAX: usize = 4 << 20;

/// How long a connection may idle between requests: more than the minute that most senders' pools keep
/// theirs, so that it is them who close it.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// For an answer to be read and the next head to arrive: an answer that is read at once leaves time to idle for
/// as long as may be.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(90);

/// How often it is looked whether the client of a question under way has hung up: seldom enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client that waits with its body is told so when the body is wanted.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What actix-http is given in place of a head that is not served, so that it is answered, logged and counted as
/// every request is. It claims a body that does not end: then actix-http reads for a while what the client still
/// sends, and the client can read the answer.
const BAD_HEAD: &[u8] = b"- * HTTP/1.1\r\nHost: -\r\nContent-Length: 9223372036854775807\r\n\r\n";

/// The memory of heads that are larger than usual.
pub(crate) type Heads = Arc<Shares>;

/// The memory of all large heads.
pub(crate) fn heads() -> Heads {
    Shares::of_all(HEADS_BYTES_MAX, CLIENT_HEADS_BYTES_MAX)
}

/// Whose turn it is on a connection: its client's to send a request, or ours to answer it.
pub(crate) struct Exchange {
    permit: Permit,
    is_ours: Cell<bool>,
    may_read: Cell<bool>,
    /// Whether a part of the body of the request that is ours has not come yet.
    has_rest: Cell<bool>,
    /// Why the request that is to be answered is none.
    bad_head: Cell<Option<BadHead>>,
    /// When the client must have done its part; `None` while we do ours.
    deadline: Cell<Option<Instant>>,
    /// Who would read if it could.
    reader: RefCell<Option<Waker>>,
    /// Whether somebody wants to know that the client has hung up.
    is_watched: Cell<bool>,
    has_hung_up: Cell<bool>,
}

impl Exchange {
    fn of_client(permit: Permit) -> Rc<Self> {
        Rc::new(Self {
            permit,
            is_ours: Cell::new(false),
            may_read: Cell::new(true),
            has_rest: Cell::new(false),
            bad_head: Cell::new(None),
            deadline: Cell::new(Some(Instant::now() + HEAD_TIME_MAX)),
            reader: RefCell::default(),
            is_watched: Cell::new(false),
            has_hung_up: Cell::new(false),
        })
    }

    /// A request has come, whole or with a rest of its body still to come; what follows it is not read until it is answered.
    fn begin_ours(&self, has_rest: bool) {
        self.permit.works();
        self.is_ours.set(true);
        self.has_rest.set(has_rest);
        self.may_read.set(false);
        self.deadline.set(None);
    }

    /// Why the request is none, if it is none.
    pub(crate) fn bad_head(&self) -> Option<BadHead> {
        self.bad_head.get()
    }

    /// Lets the connection be read until what is returned is dropped: for who wants the body of a request.
    pub(crate) fn read_body(self: &Rc<Self>) -> impl Drop + use<> {
        struct Reading(Rc<Exchange>);
        impl Drop for Reading {
            fn drop(&mut self) {
                self.0.permit.works();
                self.0.may_read.set(false);
            }
        }
        self.may_read.set(true);
        // Most bodies come whole with their head, and then nobody has to be woken to read.
        if self.has_rest.get() {
            self.wake_reader();
        }
        Reading(Rc::clone(self))
    }

    /// Waits until the client has closed its side of the connection, while it is our turn. What it sent before is not
    /// read for that.
    pub(crate) async fn hung_up(&self) {
        struct Watch<'a>(&'a Exchange);
        impl Drop for Watch<'_> {
            fn drop(&mut self) {
                self.0.is_watched.set(false);
            }
        }
        let _watch = Watch(self);
        while !self.has_hung_up.get() {
            sleep(LOOK_EVERY).await;
            self.is_watched.set(true);
            self.wake_reader();
        }
    }

    fn wake_reader(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn has_sent(&self) {
        if let Some(deadline) = self.deadline.get() {
            self.deadline.set(Some(deadline.min(Instant::now() + HEAD_TIME_MAX)));
        }
    }
}

/// Until it is dropped, a request is being answered.
struct Answering(Rc<Exchange>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.permit.waits();
        self.0.is_ours.set(false);
        self.0.may_read.set(true);
        self.0.wake_reader();
    }
}

/// Around every request.
pub(crate) async fn answer_one_request(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Answer>, Error> {
    let exchange =
        Answering(Rc::clone(request.conn_data::<Rc<Exchange>>().expect("every connection has one")));
    let response = next.call(request).await;
    exchange.0.deadline.set(Some(Instant::now() + CLIENT_TIME_MAX));
    Ok(response?.map_body(|_, body| Answer { body: body.boxed(), _answering: exchange }))
}

/// The body of an answer; when all of it is on its way, the turn is the client's again.
pub(crate) struct Answer {
    body: BoxBody,
    _answering: Answering,
}

impl MessageBody for Answer {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}

/// A connection in turns.
pub(crate) struct Connection<IO> {
    io: IO,
    peer: IpAddr,
    exchange: Rc<Exchange>,
    stage: Stage,
    /// What was read and is not handed over yet.
    ahead: BytesMut,
    /// So many bytes of it belong to the request that is being handed over.
    ahead_bytes_due: usize,
    heads: Heads,
    /// What a large head takes up, until its request is answered.
    head_memory: Option<Share>,
    /// What is left to send of [`CONTINUE`] before the body is read.
    interim: &'static [u8],
    /// What was read is looked at before more is.
    has_read_much: bool,
    /// No request has come yet.
    is_first: bool,
    /// The client does not read what is sent to it, and so is not read either.
    is_write_blocked: bool,
    timer: Pin<Box<Sleep>>,
}

/// What the next byte belongs to.
enum Stage {
    Head,
    /// A body that has so many more bytes.
    Body(u64),
    Chunks(Chunks),
    /// Nothing that is served: it is only read so that the client can read its answer.
    Rest,
    /// Nothing more comes that is right.
    End,
}

impl<IO> Connection<IO> {
    pub(crate) fn new(io: IO, peer: IpAddr, permit: Permit, heads: Heads) -> Self {
        Self {
            io,
            peer,
            exchange: Exchange::of_client(permit),
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

    /// Ready once the client has let its time pass.
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

    /// Whether the client owes us the first head, or the rest of a later one.
    fn owes_head(&self) -> bool {
        let has_begun = self.is_first || !self.ahead.is_empty();
        has_begun && !self.exchange.is_ours.get() && matches!(self.stage, Stage::Head)
    }

    /// Hands over what waits of the request, if something does.
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
        // Who has sent a part of the body does not wait.
        self.interim = if head.expects_continue && body.is_empty() { CONTINUE } else { b"" };
        self.stage = stage;
        self.is_first = false;
        self.exchange.begin_ours(!matches!(self.stage, Stage::Head));
        n_bytes
    }

    /// Has a head answered that is not served, and serves nothing more.
    fn refuse(&mut self, bad_head: BadHead) {
        self.exchange.bad_head.set(Some(bad_head));
        self.exchange.begin_ours(true);
        self.stage = Stage::Rest;
        self.head_memory = None;
        self.ahead = BytesMut::from(BAD_HEAD);
        self.ahead_bytes_due = self.ahead.len();
    }

    /// Looks for a whole head in what was read ahead; false if more has to come.
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

    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.is_write_blocked = true;
            self.exchange.permit.waits();
            if self.exchange.permit.poll_told_to_go(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        } else if mem::take(&mut self.is_write_blocked) {
            if self.exchange.is_ours.get() {
                self.exchange.permit.works();
            }
            self.exchange.wake_reader();
        }
        written
    }
}

impl Stage {
    /// What comes after a body that has ended is a head.
    fn unless_ended(self) -> Self {
        match self {
            Self::Body(0) => Self::Head,
            Self::Chunks(chunks) if chunks.has_ended() => Self::Head,
            stage => stage,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// Reads until a head is whole or can't be.
    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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

    /// Reads more of a body.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.exchange.is_ours.get() {
            self.interim = b"";
        }
        while !self.interim.is_empty() {
            let n_bytes = ready!(Pin::new(&mut self.io).poll_write(cx, self.interim))?;
            self.interim = &self.interim[n_bytes..];
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        }
        let mut bytes_max = buf.remaining().min(READ_BYTES_MAX);
        if let Stage::Body(rest) = self.stage {
            bytes_max = bytes_max.min(usize::try_from(rest).unwrap_or(usize::MAX));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(bytes_max));
        let read = Pin::new(&mut self.io).poll_read(cx, &mut part);
        if read.is_pending() {
            self.exchange.permit.waits();
        }
        ready!(read)?;
        let bytes = part.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.exchange.has_sent();
        // After less than there was room for there is no more now, and the next try waits for it.
        self.has_read_much = bytes.len() == bytes_max;
        let mut n_bytes = bytes.len();
        match &mut self.stage {
            Stage::Body(rest) => *rest -= n_bytes as u64,
            Stage::Chunks(chunks) => match chunks.read(bytes) {
                Ok(n_right) => {
                    self.ahead.extend_from_slice(&bytes[n_right..]);
                    n_bytes = n_right;
                }
                Err(WrongAt(n_right)) => {
                    n_bytes = n_right;
                    self.stage = Stage::End;
                }
            },
            Stage::Head | Stage::Rest | Stage::End => {}
        }
        self.stage = mem::replace(&mut self.stage, Stage::End).unless_ended();
        buf.advance(n_bytes);
        Poll::Ready(Ok(()))
    }
}

/// Whether it is what some senders put behind a body, and no head begins with it (RFC 9112, section 2.2).
fn are_empty_lines(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// What a connection is made of.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Whether the other side has closed its direction: whatever it has sent before.
    fn has_hung_up(&self) -> bool;
}

impl Socket for TcpStream {
    fn has_hung_up(&self) -> bool {
        is_read_closed(self.ready(Interest::READABLE))
    }
}

impl Socket for UnixStream {
    fn has_hung_up(&self) -> bool {
        is_read_closed(self.ready(Interest::READABLE))
    }
}

impl Socket for TlsStream<TcpStream> {
    fn has_hung_up(&self) -> bool {
        self.get_ref().0.has_hung_up()
    }
}

fn is_read_closed(ready: impl Future<Output = io::Result<Ready>>) -> bool {
    ready.now_or_never().and_then(Result::ok).is_some_and(Ready::is_read_closed)
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
        // Whoever wants a body is not given the request behind it.
        let is_awaited = match this.stage {
            Stage::Head => !this.exchange.is_ours.get(),
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
