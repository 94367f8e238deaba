//! What machines ask: is it alive, is it ready, how is it doing.

use std::time::Duration;

use actix_web::http::header::ContentType;
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::openapi;
use crate::server::App;

/// How long a scrape waits for readiness: what takes longer is not ready, and Prometheus waits for ten seconds.
const READY_WAIT_MAX: Duration = Duration::from_secs(3);

/// Whether the service is alive and can work.
#[derive(Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum Health {
    Live,
    Ready,
    NotReady {
        /// What is missing: for who has the token or asks on the machine itself. To others it says no more.
        detail: String,
    },
}

/// Is it alive?
///
/// It is as long as the process runs, whatever it can do.
#[utoipa::path(get, path = "/health/live", responses(
    (status = 200, description = "The process runs.", body = Health, example = json!(Health::Live)),
))]
pub(crate) async fn live() -> Json<Health> {
    Json(Health::Live)
}

/// Can it receive and answer?
///
/// It can if the database answers, the schema is current and the secret is set.
#[utoipa::path(get, path = "/health/ready", responses(
    (status = 200, description = "It can.", body = Health, example = json!(Health::Ready)),
    (status = 503, description = "It can't.", body = Health,
     example = json!(Health::NotReady { detail: "WEBHOOK_SECRET is not set".to_owned() })),
))]
pub(crate) async fn ready(request: HttpRequest, app: Data<App>) -> Result<Json<Health>, ApiError> {
    match app.ready().await {
        Ok(()) => Ok(Json(Health::Ready)),
        Err(reason) => Err(ApiError::NotReady { reason, is_told: app.door.is_insider(&request) }),
    }
}

/// How is it doing?
///
/// Counts and times in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", security((), ("token" = [])), responses(
    (status = 200, description = "All metrics.", body = String, content_type = "text/plain"),
))]
pub(crate) async fn metrics(app: Data<App>) -> HttpResponse {
    let ready = timeout(READY_WAIT_MAX, app.ready()).await;
    app.metrics.set_ready(matches!(ready, Ok(Ok(()))));
    let text = app.metrics.render().expect("every metric has a value");
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

/// What can be asked, and how it is answered?
///
/// This document, which is made from the code that answers.
#[utoipa::path(get, path = "/openapi.json", security((), ("token" = [])), responses(
    (status = 200, description = "An OpenAPI 3.1 document.", body = Object, content_type = "application/json"),
))]
pub(crate) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().insert_header(ContentType::json()).body(openapi::document())
}
