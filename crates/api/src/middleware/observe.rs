//! Observation of every request: its id, its line in the log and its counts.
//!
//! It does not look at the path: it knows a webhook or a probe by the [mark](super::marks) that the handler left.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, rt};
use slog::{KV, Record, Serializer};
use uuid::Uuid;

use crate::error::ApiError;
use crate::middleware::marks;
use crate::state::App;
use crate::telemetry::metrics::UNKNOWN_PATH;
use crate::transport::exchange::Exchange;
use crate::webhook_result::WebhookResult;

/// Longest path in a log line, in bytes; only scanners send longer ones.
const PATH_BYTES_LOGGED_MAX: usize = 256;

/// Longest method in a log line, in bytes: twice the longest registered one (RFC 5789 and others, IANA's "HTTP Method
/// Registry").
const METHOD_BYTES_LOGGED_MAX: usize = 32;

/// Header that names a request in its answer as `request_id` does in its line.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs a request to its end even if its client hangs up, so that a stored message is counted and logged.
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

/// Counts and logs an answered request.
fn finish<B>(app: &App, response: &ServiceResponse<B>, request_id: &str, started: Instant) {
    let App { log, metrics, .. } = app;
    let request = response.request();
    let latency = started.elapsed();
    let status = response.status().as_u16();
    metrics.answered(request.match_pattern().as_deref().unwrap_or(UNKNOWN_PATH), status, latency);

    let extensions = request.extensions();
    let webhook = extensions.get::<marks::Webhook>();
    if let Some(webhook) = webhook {
        metrics.webhook(webhook.result, latency);
        if let Some((source, received_at)) = &webhook.stored {
            metrics.stored(source.as_str(), *received_at);
        }
    }

    let error = response.response().error().and_then(|e| e.as_error::<ApiError>());
    let line = RequestLine {
        request_id,
        method: cut(request.method().as_str(), METHOD_BYTES_LOGGED_MAX),
        path: cut(request.path(), PATH_BYTES_LOGGED_MAX),
        status,
        latency_ms: latency.as_secs_f64() * 1000.0,
        webhook,
        client: matches!(status, 401 | 429).then(|| app.client(request)),
        error: error.and_then(ApiError::cause),
    };
    match status {
        // A wrong signature is a mistake of an operator, or an attack.
        401 if webhook.is_some() => slog::error!(log, ""; line),
        500.. => slog::error!(log, ""; line),
        400.. => slog::warn!(log, ""; line),
        _ if extensions.get::<marks::Probe>().is_some() => slog::debug!(log, ""; line),
        _ => slog::info!(log, ""; line),
    }
}

/// Returns at most `bytes_max` bytes of `text`, in whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Line of one request in the log.
struct RequestLine<'a> {
    request_id: &'a str,
    method: &'a str,
    path: &'a str,
    status: u16,
    latency_ms: f64,
    webhook: Option<&'a marks::Webhook>,
    /// Client of a refused request, so that an operator can block it or write to its owner.
    client: Option<IpAddr>,
    error: Option<String>,
}

impl KV for RequestLine<'_> {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        serializer.emit_str("request_id", self.request_id)?;
        serializer.emit_str("method", self.method)?;
        serializer.emit_str("path", self.path)?;
        serializer.emit_u16("status", self.status)?;
        serializer.emit_f64("latency_ms", (self.latency_ms * 1000.0).round() / 1000.0)?;
        if let Some(webhook) = self.webhook {
            match &webhook.message_id {
                Some(id) => serializer.emit_str("message_id", id.as_str())?,
                None => serializer.emit_none("message_id")?,
            }
            serializer.emit_bool("dup", webhook.result == WebhookResult::Duplicate)?;
            serializer.emit_str("result", webhook.result.as_str())?;
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
