//! Router: each path and method of a listener, and its handler.

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder};

use crate::error::ApiError;
use crate::middleware::require_token::require_token;
use crate::openapi;
use crate::routes::{health, messages, metrics, stats, webhook};

/// Adds routes to a listener.
pub(crate) type Routes = fn(&mut ServiceConfig);

/// Adds the routes of webhooks and of queries.
pub(crate) fn all(service: &mut ServiceConfig) {
    webhooks(service);
    queries(service);
}

/// Adds the route of webhooks.
pub(crate) fn webhooks(service: &mut ServiceConfig) {
    service.service(
        web::resource(webhook::PATH)
            .route(web::post().to(webhook::receive))
            .default_service(web::to(|| method_not_allowed("POST"))),
    );
}

/// Adds the routes that the token protects, if there is one.
pub(crate) fn queries(service: &mut ServiceConfig) {
    service
        .service(read(messages::PATH, messages::list).wrap(from_fn(require_token)))
        .service(read(stats::PATH, stats::stats).wrap(from_fn(require_token)))
        .service(read(metrics::PATH, metrics::metrics).wrap(from_fn(require_token)))
        .service(read(openapi::PATH, openapi::openapi).wrap(from_fn(require_token)));
}

/// Adds the routes of every listener: health, and the answer to unknown paths.
pub(crate) fn everywhere(service: &mut ServiceConfig) {
    service
        .service(read(health::LIVE, health::live))
        .service(read(health::READY, health::ready))
        .default_service(web::to(|| async { Err::<HttpResponse, _>(ApiError::NotFound) }));
}

/// Returns a path that is only read: by GET, and by HEAD, which is GET without a body (RFC 9110, section 9.3.2).
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
