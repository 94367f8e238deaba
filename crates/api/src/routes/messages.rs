//! `GET /messages` and `GET /stats`.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use actix_web::body::SizedStream;
use actix_web::http::header::{ContentType, LINK};
use actix_web::web::{Bytes, Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use domain::message::{MessageText, PhoneNumber};
use domain::query::{Listing, Message, PAGE_LIMIT_DEFAULT, Page, Stats};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::error::ApiError;
use crate::limits::queries::Kind;
use crate::openapi::parameters::ListParameters;
use crate::routes::parameters;
use crate::schema as fields;
use crate::server::App;

/// What there may be too much of.
pub(crate) const LISTINGS: &str = "listings";

/// Bytes of a listing that are copied for sending at once.
const PART_BYTES_MAX: usize = 32 << 10;

type PartResult = Result<Bytes, Infallible>;

/// List messages
///
/// In order of time, then of `message_id` in byte order: those that match every filter. An empty filter counts as
/// not given, an unknown parameter is ignored. While more messages follow, `Link` leads to the next page.
#[utoipa::path(get, path = "/messages", params(ListParameters), security((), ("token" = [])), responses(
    (status = 200, description = "A page of messages.", body = ListingBody<'_>,
     headers(("Link" = String, description = "`<URL>; rel=\"next\"` (RFC 8288), while more messages follow: a \
         relative URL of the next page, with the same filters and limit. However deep, it costs the same, and \
         new messages do not shift it.")),
     example = json!({"data": [EXAMPLE], "total": 1, "limit": PAGE_LIMIT_DEFAULT, "offset": 0})),
))]
pub(crate) async fn list(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, ApiError> {
    let (filter, page) = parameters::parse(request.query_string()).map_err(ApiError::InvalidQuery)?;
    let kind = if filter.is_search(&page) { Kind::Search } else { Kind::LookUp };
    let listing = app.questions.ask(&app.door, &request, kind, app.query.list(&filter, &page)).await?;
    let json = serde_json::to_vec(&ListingBody::new(&listing, &page)).expect("texts and numbers are JSON");
    let next = listing.next.as_ref().map(|place| parameters::next(request.query_string(), page.limit, place));
    drop(listing);
    let bytes = u32::try_from(json.len()).unwrap_or(u32::MAX);
    let place = Arc::clone(&app.budgets.listings).try_acquire_many_owned(bytes);
    let place = place.map_err(|_| ApiError::Overloaded(LISTINGS))?;
    let mut response = HttpResponse::Ok();
    response.insert_header(ContentType::json());
    if let Some(next) = next {
        // A relative reference (RFC 3986, section 4.2): which scheme and host the client used, a proxy may hide.
        response.insert_header((LINK, format!("</messages?{next}>; rel=\"next\"")));
    }
    Ok(response.body(in_parts(json, place)))
}

/// Hands `json` over part by part, as its client takes it; it has its place in memory until the last.
fn in_parts(json: Vec<u8>, place: OwnedSemaphorePermit) -> SizedStream<impl Stream<Item = PartResult>> {
    let size = json.len() as u64;
    let parts = stream::unfold((Bytes::from(json), place), |(mut rest, place)| async {
        let part = rest.split_to(rest.len().min(PART_BYTES_MAX));
        (!part.is_empty()).then_some((Ok(part), (rest, place)))
    });
    SizedStream::new(size, parts)
}

/// Count messages
#[utoipa::path(get, path = "/stats", security((), ("token" = [])), responses(
    (status = 200, description = "All messages in numbers.", body = StatsBody, example = json!({
        "total_messages": 1,
        "senders_count": 1,
        "messages_per_sender": [{"from": EXAMPLE.from, "count": 1}],
        "first_message_ts": EXAMPLE.ts,
        "last_message_ts": EXAMPLE.ts,
    })),
))]
pub(crate) async fn stats(request: HttpRequest, app: Data<App>) -> Result<Json<StatsBody>, ApiError> {
    let stats = app.questions.ask(&app.door, &request, Kind::LookUp, app.query.stats()).await?;
    Ok(Json(StatsBody::new(stats)))
}

/// One page of a listing.
#[derive(Serialize, ToSchema)]
#[schema(as = Listing)]
struct ListingBody<'a> {
    data: Vec<MessageBody<'a>>,
    /// How many messages match, whatever the page.
    total: u64,
    /// As it was asked for.
    #[schema(schema_with = fields::limit)]
    limit: u16,
    /// As it was asked for.
    #[schema(schema_with = fields::offset)]
    offset: u64,
}

/// A message, as it was sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Message)]
pub(crate) struct MessageBody<'a> {
    #[schema(schema_with = fields::message_id)]
    message_id: &'a str,
    #[schema(schema_with = fields::phone_number)]
    from: &'a str,
    #[schema(schema_with = fields::phone_number)]
    to: &'a str,
    #[schema(schema_with = fields::sent_at)]
    ts: &'a str,
    #[schema(schema_with = fields::text, required)]
    text: Option<&'a str>,
}

/// The message of the examples.
pub(crate) const EXAMPLE: MessageBody<'_> = MessageBody {
    message_id: "m1",
    from: "+919876543210",
    to: "+14155550100",
    ts: "2025-01-15T10:00:00Z",
    text: Some("Hello"),
};

/// What is stored, in numbers.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(crate) struct StatsBody {
    total_messages: u64,
    /// How many different senders there are.
    senders_count: u64,
    /// The ten busiest: by count, most first, then by sender.
    messages_per_sender: Vec<SenderBody>,
    /// `ts` of the first message in order of time, as it was sent.
    #[schema(schema_with = fields::sent_at_or_null, required)]
    first_message_ts: Option<String>,
    /// The same of the last.
    #[schema(schema_with = fields::sent_at_or_null, required)]
    last_message_ts: Option<String>,
}

/// A sender, and how many messages are its own.
#[derive(Serialize, ToSchema)]
#[schema(as = Sender)]
struct SenderBody {
    #[schema(schema_with = fields::phone_number)]
    from: String,
    count: u64,
}

/// [`MessageBody`] as it comes in: its text may be left out.
pub(crate) struct NewMessageBody;

impl PartialSchema for NewMessageBody {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut schema)) = MessageBody::schema() else {
            unreachable!("a struct with named fields is an object");
        };
        schema.required.retain(|field| field != "text");
        schema.into()
    }
}

impl ToSchema for NewMessageBody {
    fn name() -> Cow<'static, str> {
        "NewMessage".into()
    }
}

impl<'a> ListingBody<'a> {
    fn new(listing: &'a Listing, page: &Page) -> Self {
        let data = listing.messages.iter().map(MessageBody::new).collect();
        Self { data, total: listing.total, limit: page.limit, offset: page.offset }
    }
}

impl<'a> MessageBody<'a> {
    pub(crate) fn new(message: &'a Message) -> Self {
        Self {
            message_id: message.key.message_id.as_str(),
            from: message.sender.as_str(),
            to: message.recipient.as_str(),
            ts: message.sent_at.as_str(),
            text: message.text.as_ref().map(MessageText::as_str),
        }
    }
}

impl StatsBody {
    fn new(stats: Stats) -> Self {
        let sender = |(from, count): (PhoneNumber, u64)| SenderBody { from: from.to_string(), count };
        Self {
            total_messages: stats.total_messages,
            senders_count: stats.senders_count,
            messages_per_sender: stats.top_senders.into_iter().map(sender).collect(),
            first_message_ts: stats.first_message_ts.map(|ts| ts.as_str().to_owned()),
            last_message_ts: stats.last_message_ts.map(|ts| ts.as_str().to_owned()),
        }
    }
}
