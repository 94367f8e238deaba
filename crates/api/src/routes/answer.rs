//! Answer to a query, for which a request waits as long as its client does.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;

use actix_web::HttpRequest;
use domain::store::{StoreError, StoreErrorKind};
use futures_util::future::{Either, select};

use crate::error::ApiError;
use crate::limits::queries::Kind;
use crate::state::App;
use crate::transport::exchange::Exchange;

/// Waits for the answer to a query, unless the client has too many under way or hangs up.
///
/// # Errors
/// [`ApiError::Overloaded`], [`ApiError::HungUp`], or that of the store.
pub(super) async fn answer<T>(
    app: &App,
    request: &HttpRequest,
    kind: Kind,
    query: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, ApiError> {
    let _share = app.queries.begin(app.client(request), kind)?;
    let turn = request.conn_data::<Rc<Exchange>>().expect("every connection has one");
    match select(pin!(query), pin!(turn.hung_up())).await {
        Either::Left((answer, _)) => answer.map_err(|error| match (kind, error.kind) {
            (Kind::Search, StoreErrorKind::Busy) => ApiError::Search(error),
            _ => error.into(),
        }),
        Either::Right(_) => Err(ApiError::HungUp),
    }
}
