//! The questions of clients: each client has its share of them, and none is answered that nobody waits for.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpRequest;
use domain::store::{StoreError, StoreErrorKind};
use futures_util::future::{Either, select};

use crate::access::refusals::Door;
use crate::error::ApiError;
use crate::limits::share::Shares;
use crate::transport::exchange::Exchange;

/// Searches of one client at once, those included that wait for their turn: half of the turns that the store has.
const CLIENT_SEARCHES_MAX: usize = 2;

/// The same of look-ups. They take a millisecond, so that so many of one client make others wait for a moment only.
const CLIENT_LOOK_UPS_MAX: usize = 64;

/// What there may be too much of.
pub(crate) const CLIENT_SEARCHES: &str = "searches of one client";

/// The same of look-ups.
pub(crate) const CLIENT_LOOK_UPS: &str = "questions of one client";

/// What questions there are of each client.
pub struct Questions {
    searches: Arc<Shares>,
    look_ups: Arc<Shares>,
}

impl Default for Questions {
    fn default() -> Self {
        Self { searches: Shares::new(CLIENT_SEARCHES_MAX), look_ups: Shares::new(CLIENT_LOOK_UPS_MAX) }
    }
}

/// How much work a question may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Some look-ups.
    LookUp,
    /// See [`Filter::is_search`](domain::query::Filter::is_search).
    Search,
}

impl Questions {
    /// Waits for the answer to a question for as long as its client does.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`] if the client has its share, [`ApiError::HungUp`] if it has closed its side of the
    /// connection.
    pub(crate) async fn ask<T>(
        &self,
        door: &Door,
        request: &HttpRequest,
        kind: Kind,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, ApiError> {
        let (shares, what) = match kind {
            Kind::LookUp => (&self.look_ups, CLIENT_LOOK_UPS),
            Kind::Search => (&self.searches, CLIENT_SEARCHES),
        };
        let _share = shares.take(door.client(request), 1).ok_or(ApiError::Overloaded(what))?;
        let exchange = request.conn_data::<Rc<Exchange>>().expect("every connection has one");
        match select(pin!(question), pin!(exchange.hung_up())).await {
            Either::Left((answer, _)) => answer.map_err(|error| match (kind, error.kind) {
                (Kind::Search, StoreErrorKind::Busy) => ApiError::Search(error),
                _ => error.into(),
            }),
            Either::Right(_) => Err(ApiError::HungUp),
        }
    }
}
