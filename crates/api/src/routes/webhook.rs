//! `POST /webhook`: the raw bytes and headers go to ingest; a receipt or an error comes back.

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, BytesMut, Data, Payload};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use domain::ingest::{IngestError, Outcome, Receipt};
use domain::payload;
use domain::signature::Refusal;
use domain::source::SourceName;
use domain::store::{StoreError, StoreErrorKind};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::access::refusals::TooMany;
use crate::config::BODY_BYTES_MAX_DEFAULT;
use crate::error::ApiError;
use crate::limits::bodies::{BODIES, BodyMemory, CLIENT_BODIES};
use crate::middleware::marks;
use crate::routes::messages::{EXAMPLE, NewMessageBody};
use crate::routes::pace::{BODY_BYTES_PER_PERIOD_MIN, BODY_PERIOD, BODY_TIME_MAX, Pace};
use crate::state::App;
use crate::transport::exchange::Exchange;
use crate::webhook_result::WebhookResult;

/// Path of [`receive`].
pub(crate) const PATH: &str = "/webhook";

/// Bytes that the buffer of a body has at first, whatever length its head claims: a claim costs nothing.
const BODY_BYTES_RESERVED: usize = 4 << 10;

/// Header that distinguishes a new message from a repeat. The body does not: to a sender both are a success.
const RESULT_HEADER: &str = "x-webhook-result";

/// Body of a success.
#[derive(Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Received {
    Ok,
}

/// Schema of [`RESULT_HEADER`].
struct ResultHeader;

impl PartialSchema for ResultHeader {
    fn schema() -> RefOr<Schema> {
        let results = [Outcome::Created, Outcome::Duplicate].map(|o| WebhookResult::from(o).as_str());
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(results)).into()
    }
}

impl ToSchema for ResultHeader {}

/// Receive a message
///
/// The signature is checked before the body, and the answer is 200 only when the message is on disk. Sending a message
/// again is safe: a repeat of a `message_id` is answered 200, too, and the first message is kept unchanged.
#[utoipa::path(post, path = PATH,
    params(("X-Signature" = String, Header,
        description = "HMAC-SHA256 of the raw body under the shared secret, in hex.",
        pattern = "^[0-9A-Fa-f]{64}$")),
    request_body(content = NewMessageBody, content_type = "application/json",
        description = "At most `BODY_BYTES_MAX` bytes. Other fields and the content type are ignored.",
        example = json!(EXAMPLE)),
    responses((status = 200, description = "The message is on disk.", body = Received,
        headers(("x-webhook-result" = inline(ResultHeader), description = "`created` if the message is new.")),
        example = json!(Received::Ok)))
)]
pub(crate) async fn receive(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
) -> Result<HttpResponse, ApiError> {
    let received = receive_from(SourceName::DEFAULT, &request, payload, &app).await;
    let mark: marks::Webhook = match &received {
        Ok(receipt) => receipt.into(),
        Err(error) => error.into(),
    };
    let result = mark.result;
    request.extensions_mut().insert(mark);
    received.map(|_| HttpResponse::Ok().insert_header((RESULT_HEADER, result.as_str())).json(Received::Ok))
}

/// Returns every error of this path.
pub(crate) fn errors() -> Vec<ApiError> {
    let busy = StoreError::new(StoreErrorKind::Busy, "append messages", "the queue is full");
    vec![
        ApiError::Incomplete,
        ApiError::Ingest(IngestError::Refused(Refusal::Mismatch)),
        ApiError::TooSlow { bytes: None, secs: BODY_TIME_MAX.as_secs() },
        ApiError::TooSlow { bytes: Some(BODY_BYTES_PER_PERIOD_MIN), secs: BODY_PERIOD.as_secs() },
        ApiError::TooLarge { max: BODY_BYTES_MAX_DEFAULT.parse().expect("the default is a number") },
        ApiError::Ingest(payload::decode(b"{}").expect_err("every field is missing").into()),
        ApiError::TooManyRefusals(TooMany { retry_after: Duration::ZERO }),
        ApiError::Store(busy),
        BODIES.into(),
        CLIENT_BODIES.into(),
        ApiError::Ingest(IngestError::NoSecret),
    ]
}

async fn receive_from(
    source: &str,
    request: &HttpRequest,
    payload: Payload,
    app: &App,
) -> Result<Receipt, ApiError> {
    let source = app.sources.get(source).ok_or(ApiError::NotFound)?;
    let headers: Vec<(&str, &[u8])> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    // Wrong headers are refused before the body has come: no body makes them right.
    app.ingest.check_headers(source, &headers).map_err(|error| refusal(error, app, request))?;
    // The memory is held until the message is stored.
    let (body, _memory) = {
        let _reading = request.conn_data::<Rc<Exchange>>().expect("every connection has one").read_body();
        read(request, payload, app).await?
    };
    app.ingest.receive(source, &headers, body).await.map_err(|error| refusal(error, app, request))
}

/// Counts a wrong signature against its client, and answers it differently after too many.
fn refusal(error: IngestError, app: &App, request: &HttpRequest) -> ApiError {
    if let IngestError::Refused(_) = error
        && let Err(too_many) = app.refusals.count(app.client(request))
    {
        return too_many.into();
    }
    error.into()
}

/// Reads the whole body; fails as soon as it is clear that it is too large or too slow.
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
    let mut memory = app.budgets.bodies.begin(app.client(request))?;
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
