//! What machines ask: is it alive, is it ready, how is it doing.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;
use tokio::time::timeout;

use crate::app::App;

/// How long a scrape waits for readiness: what takes longer is not ready, and Prometheus waits for ten seconds.
const READY_WAIT_MAX: Duration = Duration::from_secs(3);

pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "live"}))
}

pub(super) async fn ready(app: Data<App>) -> HttpResponse {
    match app.ready().await {
        Ok(()) => HttpResponse::Ok().json(json!({"status": "ready"})),
        Err(missing) => {
            HttpResponse::ServiceUnavailable().json(json!({"status": "not_ready", "detail": missing}))
        }
    }
}

pub(super) async fn metrics(app: Data<App>) -> HttpResponse {
    let ready = timeout(READY_WAIT_MAX, app.ready()).await;
    app.metrics.set_ready(matches!(ready, Ok(Ok(()))));
    let text = app.metrics.render().expect("every metric has a value");
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}
