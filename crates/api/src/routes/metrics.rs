//! `GET /metrics`.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use tokio::time::timeout;

use crate::access::rights::Denied;
use crate::error::ApiError;
use crate::state::App;

/// Path of [`metrics`].
pub(crate) const PATH: &str = "/metrics";

/// Time that a scrape waits for readiness. A service that takes longer is not ready, and Prometheus waits for ten
/// seconds.
const READY_WAIT_MAX: Duration = Duration::from_secs(3);

/// Prometheus metrics
///
/// Counters and times in the text format of Prometheus.
#[utoipa::path(get, path = PATH, tag = "ops", security((), ("token" = [])), responses(
    (status = 200, description = "All metrics.", body = String, content_type = "text/plain"),
))]
pub(crate) async fn metrics(app: Data<App>) -> HttpResponse {
    let ready = timeout(READY_WAIT_MAX, app.ready()).await;
    app.metrics.set_ready(matches!(ready, Ok(Ok(()))));
    let text = app.metrics.render().expect("every metric has a value");
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

/// Returns every error of this path.
pub(crate) fn errors() -> Vec<ApiError> {
    vec![Denied::NoToken.into(), Denied::UnknownHost.into()]
}
