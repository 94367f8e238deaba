//! `GET /messages` and `GET /stats`.

use actix_web::http::header::ContentType;
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use domain::message::{MessageText, PhoneNumber};
use domain::query::{Listing, Message, Page, Stats};
use serde::Serialize;

use crate::app::App;
use crate::error::ApiError;
use crate::parameters;

pub(super) async fn list(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, ApiError> {
    let (filter, page) = parameters::parse(request.query_string()).map_err(ApiError::InvalidQuery)?;
    let listing = app.query.list(&filter, page).await?;
    Ok(HttpResponse::Ok().insert_header(ContentType::json()).json(ListingBody::new(&listing, page)))
}

pub(super) async fn stats(app: Data<App>) -> Result<Json<StatsBody>, ApiError> {
    let stats = app.query.stats().await?;
    Ok(Json(StatsBody::new(stats)))
}

#[derive(Serialize)]
struct ListingBody<'a> {
    data: Vec<MessageBody<'a>>,
    total: u64,
    limit: u16,
    offset: u64,
}

#[derive(Serialize)]
struct MessageBody<'a> {
    message_id: &'a str,
    from: &'a str,
    to: &'a str,
    ts: &'a str,
    text: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct StatsBody {
    total_messages: u64,
    senders_count: u64,
    messages_per_sender: Vec<SenderBody>,
    first_message_ts: Option<String>,
    last_message_ts: Option<String>,
}

#[derive(Serialize)]
struct SenderBody {
    from: String,
    count: u64,
}

impl<'a> ListingBody<'a> {
    fn new(listing: &'a Listing, page: Page) -> Self {
        let data = listing.messages.iter().map(MessageBody::new).collect();
        Self { data, total: listing.total, limit: page.limit, offset: page.offset }
    }
}

impl<'a> MessageBody<'a> {
    fn new(message: &'a Message) -> Self {
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
