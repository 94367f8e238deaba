//! Access to everything that is neither a webhook nor health.

use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Data;

use crate::access::rights;
use crate::error::ApiError;
use crate::state::App;

/// Denies requests that may not query.
pub(crate) async fn require_token<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let app = request.app_data::<Data<App>>().expect("every server is built with its app");
    match rights::may_query(request.headers(), app.token.as_ref(), &app.allowed_hosts) {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(denied) => Ok(request.error_response(ApiError::from(denied))),
    }
}
