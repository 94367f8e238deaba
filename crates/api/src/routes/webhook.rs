//! `POST /webhook`: raw bytes and headers down to ingest, a receipt or an error up.

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, BytesMut, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use domain::ingest::{IngestError, Outcome};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::error::ApiError;
use crate::limits::bodies::BodyMemory;
use crate::router::result_of;
use crate::routes::messages::{EXAMPLE, NewMessageBody};
use crate::server::App;
use crate::transport::exchange::Exchange;

/// From the head of a request to the end of its body: a megabyte over the slowest phone network
/// takes less, and who takes longer keeps a connection from others.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// A body brings at least [`BODY_BYTES_PER_PERIOD_MIN`] in each period, or its end: one that stalls holds memory for
/// nothing. Two lost packets in a row delay it by less.
pub(crate) const BODY_PERIOD: Duration = Duration::from_secs(5);

/// See [`BODY_PERIOD`]. What is smaller has to come whole within the first.
pub(crate) const BODY_BYTES_PER_PERIOD_MIN: usize = 16 << 10;

/// What a body's buffer has at first, whatever length its head claims: a claim costs nothing.
const BODY_BYTES_RESERVED: usize = 4 << 10;

/// Tells a sender whether its message was new. The body does not: to a sender both are one success.
const RESULT_HEADER: &str = "x-webhook-result";

/// Either way the message is stored, once.
#[derive(Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Received {
    Ok,
}

/// The values of [`RESULT_HEADER`].
struct WebhookResult;

impl PartialSchema for WebhookResult {
    fn schema() -> RefOr<Schema> {
        let results = [Outcome::Created, Outcome::Duplicate].map(result_of);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(results)).into()
    }
}

impl ToSchema for WebhookResult {}

/// Receive a message
///
/// The signature is looked at before the body is, and the answer is 200 only when the message is on disk.
/// Sending it again is safe: what has the same `message_id` is answered 200, too, and the first one is kept
/// untouched.
#[utoipa::path(post, path = "/webhook",
    params(("X-Signature" = String, Header,
        description = "HMAC-SHA256 of the raw body under the shared secret, in hex.",
        pattern = "^[0-9A-Fa-f]{64}$")),
    request_body(content = NewMessageBody, content_type = "application/json",
        description = "Other fields are ignored, and so is the content type. At most `BODY_BYTES_MAX` bytes.",
        example = json!(EXAMPLE)),
    responses((status = 200, description = "The message is on disk.", body = Received,
        headers(("x-webhook-result" = inline(WebhookResult), description = "Whether it was new.")),
        example = json!(Received::Ok)))
)]
pub(crate) async fn receive(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
) -> Result<HttpResponse, ApiError> {
    let headers: Vec<(&str, &[u8])> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    // What no body can mend is not worth waiting for one.
    app.ingest.check_headers(&app.source, &headers).map_err(|error| refusal(error, &app, &request))?;
    // The memory is the body's until the message is answered.
    let (body, _memory) = {
        let _reading = request.conn_data::<Rc<Exchange>>().expect("every connection has one").read_body();
        read(&request, payload, &app).await?
    };
    let receipt = app
        .ingest
        .receive(&app.source, &headers, body)
        .await
        .map_err(|error| refusal(error, &app, &request))?;

    let mut response =
        HttpResponse::Ok().insert_header((RESULT_HEADER, result_of(receipt.outcome))).json(Received::Ok);
    response.extensions_mut().insert(receipt);
    Ok(response)
}

/// A wrong signature is counted against its client, and answered otherwise once there were too many.
fn refusal(error: IngestError, app: &App, request: &HttpRequest) -> ApiError {
    if let IngestError::Refused(_) = error
        && let Err(wait) = app.door.count_refusal(request)
    {
        return ApiError::TooManyRefusals { retry_secs: wait.as_secs() + 1 };
    }
    error.into()
}

/// The whole body and its memory, or an error as soon as it is clear that it is too large or too slow.
async fn read<'a>(
    request: &HttpRequest,
    mut payload: Payload,
    app: &'a App,
) -> Result<(Bytes, BodyMemory<'a>), ApiError> {
    let bytes_max = app.body_bytes_max;
    let too_large = ApiError::TooLarge { max: bytes_max };
    let claimed = request.headers().get(CONTENT_LENGTH);
    let claimed = claimed.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if claimed.is_some_and(|n| n > bytes_max as u64) {
        return Err(too_large);
    }
    let mut memory = app.budgets.bodies.begin(app.door.client(request))?;
    let mut body = BytesMut::with_capacity(BODY_BYTES_RESERVED);
    let mut pace = Pace::new(Instant::now());
    while let Some(chunk) = pace.next_of(&mut payload).await? {
        let chunk = chunk.map_err(|_| ApiError::Incomplete)?;
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large);
        }
        memory.grow(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    Ok((body.freeze(), memory))
}

/// How fast a body comes.
struct Pace {
    deadline: Instant,
    period_end: Instant,
    period_bytes: usize,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { deadline: now + BODY_TIME_MAX, period_end: now + BODY_PERIOD, period_bytes: 0 }
    }

    /// The next part of a body, or [`ApiError::TooSlow`].
    async fn next_of<T>(
        &mut self,
        payload: &mut (impl Stream<Item = Result<Bytes, T>> + Unpin),
    ) -> Result<Option<Result<Bytes, T>>, ApiError> {
        loop {
            match timeout_at(self.period_end.min(self.deadline), payload.next()).await {
                Ok(part) => {
                    if let Some(Ok(bytes)) = &part {
                        self.period_bytes += bytes.len();
                    }
                    return Ok(part);
                }
                Err(_) if self.deadline <= self.period_end => {
                    return Err(ApiError::TooSlow { bytes: None, secs: BODY_TIME_MAX.as_secs() });
                }
                Err(_) if self.period_bytes < BODY_BYTES_PER_PERIOD_MIN => {
                    return Err(ApiError::TooSlow {
                        bytes: Some(BODY_BYTES_PER_PERIOD_MIN),
                        secs: BODY_PERIOD.as_secs(),
                    });
                }
                Err(_) => {
                    self.period_end += BODY_PERIOD;
                    self.period_bytes = 0;
                }
            }
        }
    }
}
