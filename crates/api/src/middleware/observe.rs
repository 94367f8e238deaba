//! Around every request: its id, its one line in the log, its counts.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, rt};
use domain::ingest::{Outcome, Receipt};
use slog::{KV, Record, Serializer};
use uuid::Uuid;

use crate::error::ApiError;
use crate::router as routes;
use crate::server::App;
use crate::transport::exchange::Exchange;

/// The `path` of `http_requests_total` for all paths that are not ours.
pub(crate) const UNKNOWN_PATH: &str = "unknown";

/// Longest path in a log line, in bytes; longer ones are a scanner's.
const PATH_BYTES_LOGGED_MAX: usize = 256;

/// Longest method in a log line, in bytes: twice the longest that is registered (RFC 5789 and others, IANA's "HTTP
/// Method Registry").
const METHOD_BYTES_LOGGED_MAX: usize = 32;

/// Names the request in its answer as in its line.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs a request to its end, even if its client hangs up meanwhile: what was stored is then counted
/// and logged as it would be otherwise.
pub(crate) async fn observe<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let app = Data::clone(request.app_data::<Data<App>>().expect("every server is built with its app"));
    let bad_head = request.conn_data::<Rc<Exchange>>().and_then(|exchange| exchange.bad_head());
    let run = async move {
        let mut response = match bad_head {
            Some(bad_head) => request.error_response(ApiError::from(bad_head)),
            None => next.call(request).await?.map_into_boxed_body(),
        };
        let request_id = Uuid::now_v7().to_string();
        finish(&app, &response, &request_id, started);
        let value = HeaderValue::from_str(&request_id).expect("a UUID is printable ASCII");
        response.headers_mut().insert(REQUEST_ID, value);
        Ok(response)
    };
    rt::spawn(run).await.map_err(actix_web::error::ErrorInternalServerError)?
}

fn finish<B>(app: &App, response: &ServiceResponse<B>, request_id: &str, started: Instant) {
    let App { log, metrics, door, .. } = app;
    let request = response.request();
    let latency = started.elapsed();
    let status = response.status().as_u16();
    let route = request.match_pattern();
    let error = response.response().error().and_then(|e| e.as_error::<ApiError>());
    metrics.answered(route.as_deref().unwrap_or(UNKNOWN_PATH), status, latency);

    let is_webhook = request.method() == Method::POST && route.as_deref() == Some(routes::WEBHOOK);
    let webhook = is_webhook.then(|| WebhookLine::new(response, error));
    if let Some(webhook) = &webhook {
        metrics.webhook(webhook.result, latency);
    }
    if let Some(receipt) = response.response().extensions().get::<Receipt>()
        && receipt.outcome == Outcome::Created
    {
        metrics.stored(receipt.source.as_str(), receipt.received_at);
    }

    let line = RequestLine {
        request_id,
        method: cut(request.method().as_str(), METHOD_BYTES_LOGGED_MAX),
        path: cut(request.path(), PATH_BYTES_LOGGED_MAX),
        status,
        latency_ms: latency.as_secs_f64() * 1000.0,
        webhook,
        client: matches!(status, 401 | 429).then(|| door.client(request)),
        error: error.and_then(ApiError::cause),
    };
    match (status, route.as_deref()) {
        // A signature that does not hold is somebody's mistake or somebody's attack.
        (401, _) if is_webhook => slog::error!(log, ""; line),
        (500.., _) => slog::error!(log, ""; line),
        (400.., _) => slog::warn!(log, ""; line),
        // Probes ask every few seconds, and what is well is not worth a line then.
        (_, Some(routes::LIVE | routes::READY)) => slog::debug!(log, ""; line),
        _ => slog::info!(log, ""; line),
    }
}

/// At most `bytes_max` bytes of `text`, in whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

struct RequestLine<'a> {
    request_id: &'a str,
    method: &'a str,
    path: &'a str,
    status: u16,
    latency_ms: f64,
    webhook: Option<WebhookLine>,
    /// Who was refused, so that it can be told or blocked.
    client: Option<IpAddr>,
    error: Option<String>,
}

struct WebhookLine {
    message_id: Option<String>,
    dup: bool,
    result: &'static str,
}

impl WebhookLine {
    fn new<B>(response: &ServiceResponse<B>, error: Option<&ApiError>) -> Self {
        let extensions = response.response().extensions();
        match (extensions.get::<Receipt>(), error) {
            (Some(receipt), _) => Self {
                message_id: Some(receipt.message_id.as_str().to_owned()),
                dup: receipt.outcome == Outcome::Duplicate,
                result: routes::result_of(receipt.outcome),
            },
            (None, Some(error)) => Self {
                message_id: error.message_id().map(|id| id.as_str().to_owned()),
                dup: false,
                result: error.webhook_result(),
            },
            (None, None) => Self { message_id: None, dup: false, result: "unavailable" },
        }
    }
}

impl KV for RequestLine<'_> {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        serializer.emit_str("request_id", self.request_id)?;
        serializer.emit_str("method", self.method)?;
        serializer.emit_str("path", self.path)?;
        serializer.emit_u16("status", self.status)?;
        serializer.emit_f64("latency_ms", (self.latency_ms * 1000.0).round() / 1000.0)?;
        if let Some(webhook) = &self.webhook {
            match &webhook.message_id {
                Some(id) => serializer.emit_str("message_id", id)?,
                None => serializer.emit_none("message_id")?,
            }
            serializer.emit_bool("dup", webhook.dup)?;
            serializer.emit_str("result", webhook.result)?;
        }
        if let Some(client) = self.client {
            serializer.emit_arguments("client", &format_args!("{client}"))?;
        }
        match &self.error {
            Some(error) => serializer.emit_str("error", error),
            None => Ok(()),
        }
    }
}
