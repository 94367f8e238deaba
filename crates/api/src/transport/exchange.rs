//! One request and its answer on a connection, as the connection and the handler see it.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use tokio::time::{Instant, sleep};

use crate::transport::head::BadHead;
use crate::transport::permits::Permit;
use crate::transport::time_limits::{CLIENT_TIME_MAX, HEAD_TIME_MAX};

/// Time between two looks at whether the client of a query has hung up: long enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// State of one request and its answer, which the connection and the handler share.
pub(crate) struct Exchange {
    pub(super) permit: Permit,
    /// A request is being answered; otherwise the client has to send one.
    pub(super) is_answering: Cell<bool>,
    pub(super) may_read: Cell<bool>,
    /// A part of the body of the request has not come yet.
    has_rest: Cell<bool>,
    /// Reason for which the head is not served.
    pub(super) bad_head: Cell<Option<BadHead>>,
    /// Time by which the client must have sent a request or read the answer; `None` while the service works.
    pub(super) deadline: Cell<Option<Instant>>,
    /// The answer is a stream, which may take as long as its handler needs.
    is_streaming: Cell<bool>,
    /// Task that waits to read.
    pub(super) reader: RefCell<Option<Waker>>,
    /// A handler waits for the client to hang up.
    pub(super) is_watched: Cell<bool>,
    pub(super) has_hung_up: Cell<bool>,
}

impl Exchange {
    /// Returns the state of a new connection, on which no request has come.
    pub(super) fn new(permit: Permit) -> Rc<Self> {
        Rc::new(Self {
            permit,
            is_answering: Cell::new(false),
            may_read: Cell::new(true),
            has_rest: Cell::new(false),
            bad_head: Cell::new(None),
            deadline: Cell::new(Some(Instant::now() + HEAD_TIME_MAX)),
            is_streaming: Cell::new(false),
            reader: RefCell::default(),
            is_watched: Cell::new(false),
            has_hung_up: Cell::new(false),
        })
    }

    /// Begins the answer to a request, of whose body a rest may still come. What follows the request is not read until
    /// it is answered.
    pub(super) fn begin_answer(&self, has_rest: bool) {
        self.permit.works();
        self.is_answering.set(true);
        self.has_rest.set(has_rest);
        self.may_read.set(false);
        self.deadline.set(None);
    }

    /// Returns why the head is not served, if it is not.
    pub(crate) fn bad_head(&self) -> Option<BadHead> {
        self.bad_head.get()
    }

    /// Lets the connection be read until the value that is returned is dropped: a handler reads a body with it.
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

    /// Waits until the client has closed its side of the connection, while its request is being answered. What it sent
    /// before is not read for that.
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

    /// Wakes the task that waits to read, if one does.
    pub(super) fn wake_reader(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Gives the client the time of a head from now on, if it had more.
    pub(super) fn has_sent(&self) {
        if let Some(deadline) = self.deadline.get() {
            self.deadline.set(Some(deadline.min(Instant::now() + HEAD_TIME_MAX)));
        }
    }

    /// Starts the client's time to read the answer. An answer of unknown length is a stream: its time starts when the
    /// client does not read.
    fn answered(&self, size: BodySize) {
        self.is_streaming.set(size == BodySize::Stream);
        self.deadline.set((!self.is_streaming.get()).then(|| Instant::now() + CLIENT_TIME_MAX));
    }

    /// Notes that the client reads a part of the answer, or does not: a stream has its time from then on.
    pub(super) fn wrote(&self, is_blocked: bool) {
        if !self.is_streaming.get() {
            return;
        }
        if !is_blocked {
            self.deadline.set(None);
        } else if self.deadline.get().is_none() {
            self.deadline.set(Some(Instant::now() + CLIENT_TIME_MAX));
        }
    }
}

/// Guard of an answer: while it lives, a request is being answered.
struct Answering(Rc<Exchange>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.permit.waits();
        self.0.is_answering.set(false);
        self.0.may_read.set(true);
        if self.0.is_streaming.take() {
            self.0.deadline.set(Some(Instant::now() + CLIENT_TIME_MAX));
        }
        self.0.wake_reader();
    }
}

/// Middleware around every request: marks on its connection when the answer begins and ends.
pub(crate) async fn answer_one_request(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Answer>, Error> {
    let exchange =
        Answering(Rc::clone(request.conn_data::<Rc<Exchange>>().expect("every connection has one")));
    let response = next.call(request).await;
    let size = response.as_ref().map_or(BodySize::None, |response| response.response().body().size());
    exchange.0.answered(size);
    Ok(response?.map_body(|_, body| Answer { body: body.boxed(), _answering: exchange }))
}

/// Body of an answer. When all of it is on its way, the next request is read.
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use prometheus::Registry;

    use super::*;
    use crate::transport::permits::{PermitMetrics, Permits};

    fn answering() -> Answering {
        let permits = Permits::new(1, 1, PermitMetrics::new(&Registry::new(), "a", "a").unwrap());
        let exchange = Exchange::new(permits.take(Ipv4Addr::LOCALHOST.into(), false).unwrap());
        exchange.begin_answer(false);
        Answering(exchange)
    }

    #[test]
    fn an_answer_of_known_length_has_one_deadline() {
        let answering = answering();
        answering.0.answered(BodySize::Sized(7));
        let deadline = answering.0.deadline.get();
        assert!(deadline.is_some());
        answering.0.wrote(true);
        answering.0.wrote(false);
        assert_eq!(answering.0.deadline.get(), deadline);
    }

    #[test]
    fn a_stream_has_a_deadline_only_while_its_client_does_not_read() {
        let answering = answering();
        let exchange = Rc::clone(&answering.0);
        exchange.answered(BodySize::Stream);
        assert!(exchange.deadline.get().is_none());
        exchange.wrote(true);
        let deadline = exchange.deadline.get();
        assert!(deadline.is_some());
        exchange.wrote(true);
        assert_eq!(exchange.deadline.get(), deadline, "the client has not read since");
        exchange.wrote(false);
        assert!(exchange.deadline.get().is_none());
        drop(answering);
        assert!(exchange.deadline.get().is_some(), "the next head has its time");
        exchange.wrote(false);
        assert!(exchange.deadline.get().is_some(), "the end of the stream is written");
    }
}
