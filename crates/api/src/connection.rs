//! One connection: when it is read, how much at once, and how long it may keep us waiting.
//!
//! actix-http (3.20) reads whatever comes, up to 128 KiB ahead, while a request is being answered, and then takes
//! apart all the requests that are in it at once: some 10 KiB for each of 25 bytes. A client that sends requests
//! and reads no answers thus costs tens of megabytes. It times a connection's first head and its idling after
//! an answer, but neither a later head of which a byte has come, nor the rest of a body that was refused, nor
//! the reading of an answer. So we stand between it and the socket: each side has its turn. The client's is to
//! send a request, ours is to answer it; what it sends meanwhile stays in the kernel, which holds the client up.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes read at once: most webhooks whole. What comes in them behind a request is taken apart before its turn:
/// forty requests at most, which take up 400 KiB.
const READ_BYTES_MAX: usize = 1 << 10;

/// For the head of a connection's first request to arrive whole.
pub(crate) const FIRST_HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// For that of a later one from its first byte. It holds for the first, too, but actix-http is to be the first
/// to find it late, because it answers 408.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);

/// How long a connection may idle between requests: more than the minute that most senders' pools keep
/// theirs, so that it is them who close it.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// For an answer to be read and the next head to arrive: an answer that is read at once leaves time to idle for
/// as long as may be.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(90);

/// Whose turn it is on a connection: its client's to send a request, or ours to answer it.
pub(crate) struct Turn {
    may_read: Cell<bool>,
    /// When the client must have done its part; `None` while we do ours.
    deadline: Cell<Option<Instant>>,
    /// Who would read if it could.
    reader: RefCell<Option<Waker>>,
}

impl Turn {
    fn of_client() -> Rc<Self> {
        Rc::new(Self {
            may_read: Cell::new(true),
            deadline: Cell::new(Some(Instant::now() + CLIENT_TIME_MAX)),
            reader: RefCell::default(),
        })
    }

    fn take(self: &Rc<Self>) -> OurTurn {
        self.may_read.set(false);
        self.deadline.set(None);
        OurTurn(Rc::clone(self))
    }

    /// Lets the connection be read until what is returned is dropped: for who wants the body of a request.
    pub(crate) fn read_body(self: &Rc<Self>) -> impl Drop + use<> {
        struct Reading(Rc<Turn>);
        impl Drop for Reading {
            fn drop(&mut self) {
                self.0.may_read.set(false);
            }
        }
        self.let_read();
        Reading(Rc::clone(self))
    }

    fn let_read(&self) {
        self.may_read.set(true);
        self.wake_reader();
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
struct OurTurn(Rc<Turn>);

impl Drop for OurTurn {
    fn drop(&mut self) {
        self.0.let_read();
    }
}

/// Around every request.
pub(crate) async fn take_turn(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Answer>, Error> {
    let turn = request.conn_data::<Rc<Turn>>().expect("every connection has one").take();
    let response = next.call(request).await;
    turn.0.deadline.set(Some(Instant::now() + CLIENT_TIME_MAX));
    Ok(response?.map_body(|_, body| Answer { body: body.boxed(), _turn: turn }))
}

/// The body of an answer; when all of it is on its way, the turn is the client's again.
pub(crate) struct Answer {
    body: BoxBody,
    _turn: OurTurn,
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
    turn: Rc<Turn>,
    /// What was read is looked at before more is.
    has_read_much: bool,
    /// The client does not read what is sent to it, and so is not read either.
    is_write_blocked: bool,
    timer: Pin<Box<Sleep>>,
}

impl<IO> Connection<IO> {
    pub(crate) fn new(io: IO) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + CLIENT_TIME_MAX));
        Self { io, turn: Turn::of_client(), has_read_much: false, is_write_blocked: false, timer }
    }

    pub(crate) fn turn(&self) -> Rc<Turn> {
        Rc::clone(&self.turn)
    }

    /// Fails once the client has let its time pass.
    fn check_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // The timer is reset only if it is due too late or has run out: most requests do not touch it.
        if let Some(deadline) = self.turn.deadline.get()
            && deadline < self.timer.deadline()
        {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let deadline = self.turn.deadline.get().unwrap_or(now + CLIENT_TIME_MAX);
            if deadline <= now {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(deadline);
        }
        Ok(())
    }

    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() {
            self.is_write_blocked = true;
        } else if mem::take(&mut self.is_write_blocked) {
            self.turn.wake_reader();
        }
        written
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_time(cx)?;
        if mem::take(&mut this.has_read_much) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.is_write_blocked || !this.turn.may_read.get() {
            this.turn.reader.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let bytes_max = buf.remaining().min(READ_BYTES_MAX);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(bytes_max));
        ready!(Pin::new(&mut this.io).poll_read(cx, &mut part))?;
        let n_bytes = part.filled().len();
        buf.advance(n_bytes);
        if n_bytes > 0 {
            this.turn.has_sent();
        }
        // After less than there was room for there is no more now, and the next try waits for it.
        this.has_read_much = n_bytes == bytes_max;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_time(cx)?;
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.wrote(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
