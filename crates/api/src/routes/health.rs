//! `GET /health/live` and `GET /health/ready`, for probes.

use actix_web::web::{Data, Json};
use actix_web::{HttpMessage, HttpRequest};

use crate::access::rights;
use crate::error::ApiError;
use crate::health::Health;
use crate::middleware::marks;
use crate::state::App;

/// Path of [`live`].
pub(crate) const LIVE: &str = "/health/live";

/// Path of [`ready`].
pub(crate) const READY: &str = "/health/ready";

/// Liveness
///
/// 200 while the process is up.
#[utoipa::path(get, path = LIVE, tag = "ops", responses(
    (status = 200, description = "The process is up.", body = Health, example = json!(Health::Live)),
))]
pub(crate) async fn live(request: HttpRequest) -> Json<Health> {
    request.extensions_mut().insert(marks::Probe);
    Json(Health::Live)
}

/// Readiness
///
/// 200 if the service can receive webhooks and answer queries: the database answers, its schema is current, and the
/// secret is set.
#[utoipa::path(get, path = READY, tag = "ops", responses(
    (status = 200, description = "The service is ready.", body = Health, example = json!(Health::Ready)),
    (status = 503, description = "The service is not ready.", body = Health,
     example = json!(Health::NotReady { detail: "WEBHOOK_SECRET is not set".to_owned() })),
))]
pub(crate) async fn ready(request: HttpRequest, app: Data<App>) -> Result<Json<Health>, ApiError> {
    request.extensions_mut().insert(marks::Probe);
    app.ready().await.map(|()| Json(Health::Ready)).map_err(|reason| {
        let is_told = rights::is_insider(&request, app.token.as_ref(), &app.allowed_hosts);
        ApiError::NotReady { reason, is_told }
    })
}
