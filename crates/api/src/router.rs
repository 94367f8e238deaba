//! The routes: which method of which path goes where.

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, HttpResponse};
use actix_web::{Handler, Resource, Responder};
use domain::ingest::Outcome;
use utoipa::OpenApi;

use crate::access::refusals as door;
use crate::error::{ApiError, ErrorBody, ValidationErrorBody};
use crate::routes::{health, messages, webhook};

/// Where webhooks come in.
pub(crate) const WEBHOOK: &str = "/webhook";

/// Whether the process runs.
pub(crate) const LIVE: &str = "/health/live";

/// Whether it can work.
pub(crate) const READY: &str = "/health/ready";

/// `result` of a webhook that was received.
pub(crate) fn result_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "created",
        Outcome::Duplicate => "duplicate",
    }
}

/// What each of the routes below is answered if all goes well.
#[derive(OpenApi)]
#[openapi(
    paths(
        webhook::receive,
        messages::list,
        messages::stats,
        health::metrics,
        health::openapi,
        health::live,
        health::ready
    ),
    components(schemas(ErrorBody<'_>, ValidationErrorBody<'_>))
)]
pub(crate) struct Described;

/// Which routes a listener has.
pub(crate) type Routes = fn(&mut ServiceConfig);

/// All routes.
pub(crate) fn all(service: &mut ServiceConfig) {
    receiving(service);
    asking(service);
}

/// Webhooks.
pub(crate) fn receiving(service: &mut ServiceConfig) {
    service.service(
        web::resource(WEBHOOK)
            .route(web::post().to(webhook::receive))
            .default_service(web::to(|| method_not_allowed("POST"))),
    );
}

/// What wants the token, if there is one.
pub(crate) fn asking(service: &mut ServiceConfig) {
    service
        .service(read("/messages", messages::list).wrap(from_fn(door::require_token)))
        .service(read("/stats", messages::stats).wrap(from_fn(door::require_token)))
        .service(read("/metrics", health::metrics).wrap(from_fn(door::require_token)))
        .service(read("/openapi.json", health::openapi).wrap(from_fn(door::require_token)));
}

/// What every listener has beside its routes.
pub(crate) fn everywhere(service: &mut ServiceConfig) {
    service
        .service(read(LIVE, health::live))
        .service(read(READY, health::ready))
        .default_service(web::to(|| async { Err::<HttpResponse, _>(ApiError::NotFound) }));
}

/// A path that is only read: GET, and HEAD, which is GET without a body (RFC 9110, section 9.3.2).
fn read<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::method(Method::HEAD).to(handler))
        .default_service(web::to(|| method_not_allowed("GET, HEAD")))
}

async fn method_not_allowed(allow: &'static str) -> Result<HttpResponse, ApiError> {
    Err(ApiError::MethodNotAllowed { allow })
}
