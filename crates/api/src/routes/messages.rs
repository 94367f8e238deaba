//! `GET /messages`, and the bodies of messages.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use actix_web::body::SizedStream;
use actix_web::http::header::{ContentType, LINK};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use domain::message::MessageText;
use domain::query::{Listing, Message, PAGE_LIMIT_DEFAULT, Page};
use domain::store::{StoreError, StoreErrorKind};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::answer::answer;
use crate::access::rights::Denied;
use crate::error::ApiError;
use crate::limits::Overloaded;
use crate::limits::queries::{CLIENT_LOOK_UPS, CLIENT_SEARCHES, Kind};
use crate::routes::parameters::{self, ListParameters};
use crate::schema;
use crate::state::App;

/// Path of [`list`].
pub(crate) const PATH: &str = "/messages";

/// Error if there are too many bytes of listings that are being sent.
const LISTINGS: Overloaded = Overloaded("listings");

/// Bytes of a listing that are copied for sending at once.
const PART_BYTES_MAX: usize = 32 << 10;

type PartResult = Result<Bytes, Infallible>;

/// List messages
///
/// Messages that match every filter, by time and then by `message_id` in byte order. An empty filter is no filter, and
/// unknown parameters are ignored. While more messages follow, the `Link` header leads to the next page.
#[utoipa::path(get, path = PATH, params(ListParameters), security((), ("token" = [])), responses(
    (status = 200, description = "A page of messages.", body = ListingBody<'_>,
     headers(("Link" = String, description = "`<URL>; rel=\"next\"` (RFC 8288), while more messages follow: the \
         relative URL of the next page, with the same filters and limit. Every page costs the same, however deep, \
         and new messages do not shift the pages.")),
     example = json!({"data": [EXAMPLE], "total": 1, "limit": PAGE_LIMIT_DEFAULT, "offset": 0})),
))]
pub(crate) async fn list(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, ApiError> {
    let (filter, page) = parameters::parse(request.query_string()).map_err(ApiError::InvalidQuery)?;
    let kind = if filter.is_search(&page) { Kind::Search } else { Kind::LookUp };
    let listing = answer(&app, &request, kind, app.query.list(&filter, &page)).await?;
    let json = serde_json::to_vec(&ListingBody::new(&listing, &page)).expect("texts and numbers are JSON");
    let next = listing.next.as_ref().map(|place| parameters::next(request.query_string(), page.limit, place));
    drop(listing);
    let bytes = u32::try_from(json.len()).unwrap_or(u32::MAX);
    let permit = Arc::clone(&app.budgets.listings).try_acquire_many_owned(bytes).map_err(|_| LISTINGS)?;
    let mut response = HttpResponse::Ok();
    response.insert_header(ContentType::json());
    if let Some(next) = next {
        // A relative reference (RFC 3986, section 4.2): a proxy may hide the scheme and host that the client used.
        response.insert_header((LINK, format!("<{PATH}?{next}>; rel=\"next\"")));
    }
    Ok(response.body(in_parts(json, permit)))
}

/// Returns every error of this path.
pub(crate) fn errors() -> Vec<ApiError> {
    let busy = || StoreError::new(StoreErrorKind::Busy, "list messages", "too many queries");
    let invalid_query = parameters::parse("limit=0").expect_err("0 is too small");
    vec![
        Denied::NoToken.into(),
        Denied::UnknownHost.into(),
        ApiError::InvalidQuery(invalid_query),
        ApiError::Store(busy()),
        ApiError::Search(busy()),
        CLIENT_SEARCHES.into(),
        CLIENT_LOOK_UPS.into(),
        LISTINGS.into(),
    ]
}

/// Hands `json` over part by part, as its client reads it, and holds the permit for its memory until the last.
fn in_parts(json: Vec<u8>, permit: OwnedSemaphorePermit) -> SizedStream<impl Stream<Item = PartResult>> {
    let size = json.len() as u64;
    let parts = stream::unfold((Bytes::from(json), permit), |(mut rest, permit)| async {
        let part = rest.split_to(rest.len().min(PART_BYTES_MAX));
        (!part.is_empty()).then_some((Ok(part), (rest, permit)))
    });
    SizedStream::new(size, parts)
}

/// Page of a listing.
#[derive(Serialize, ToSchema)]
#[schema(as = Listing)]
struct ListingBody<'a> {
    data: Vec<MessageBody<'a>>,
    /// Number of messages that match, on all pages.
    total: u64,
    /// `limit` of the request.
    #[schema(schema_with = schema::limit)]
    limit: u16,
    /// `offset` of the request.
    #[schema(schema_with = schema::offset)]
    offset: u64,
}

/// Message, as it was sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Message)]
pub(crate) struct MessageBody<'a> {
    #[schema(schema_with = schema::message_id)]
    message_id: &'a str,
    #[schema(schema_with = schema::phone_number)]
    pub(super) from: &'a str,
    #[schema(schema_with = schema::phone_number)]
    to: &'a str,
    #[schema(schema_with = schema::sent_at)]
    pub(super) ts: &'a str,
    #[schema(schema_with = schema::text, required)]
    text: Option<&'a str>,
}

/// Message of the examples.
pub(crate) const EXAMPLE: MessageBody<'_> = MessageBody {
    message_id: "m1",
    from: "+919876543210",
    to: "+14155550100",
    ts: "2025-01-15T10:00:00Z",
    text: Some("Hello"),
};

/// Schema of a [`MessageBody`] that is received: its text may be left out.
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
