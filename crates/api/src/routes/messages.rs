//! `GET /messages` and `GET /stats`.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use actix_web::body::SizedStream;
use actix_web::http::header::ContentType;
use actix_web::web::{Bytes, Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use domain::message::{MessageText, PhoneNumber};
use domain::query::{Filter, Listing, Message, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, Page, Stats, TextQuery};
use domain::time::ExactTime;
use futures_util::{Stream, stream};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::error::{ApiError, InvalidField};

/// Bytes of a listing that are copied for sending at once.
const PART_BYTES_MAX: usize = 32 << 10;

type PartResult = Result<Bytes, Infallible>;

pub(super) async fn list(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, ApiError> {
    let (filter, page) = parse_query(request.query_string()).map_err(ApiError::InvalidQuery)?;
    let listing = app.query.list(&filter, page).await?;
    let json = serde_json::to_vec(&ListingBody::new(&listing, page)).expect("texts and numbers are JSON");
    drop(listing);
    let bytes = u32::try_from(json.len()).unwrap_or(u32::MAX);
    let place = Arc::clone(&app.budgets.listings).try_acquire_many_owned(bytes);
    let place = place.map_err(|_| ApiError::Overloaded("listings"))?;
    Ok(HttpResponse::Ok().insert_header(ContentType::json()).body(in_parts(json, place)))
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

/// Reads the parameters of a listing; every mistake, not only the first. Unknown parameters are
/// ignored, empty ones are no filter.
fn parse_query(query: &str) -> Result<(Filter, Page), Vec<InvalidField>> {
    let mut parameters = Parameters { query, errors: Vec::new() };
    let limit = parameters.number("limit", 1, PAGE_LIMIT_MAX.into(), PAGE_LIMIT_DEFAULT.into());
    let offset = parameters.number("offset", 0, i64::MAX.unsigned_abs(), 0);
    // A + that was not encoded arrives as a space: in front of a number, or of a zone's offset.
    let sender = parameters.text("from").map(|from| match from.strip_prefix(' ') {
        Some(digits) => format!("+{digits}"),
        None => from.into_owned(),
    });
    let since = parameters.text("since").map(|since| since.replace(' ', "+"));
    let since = since.and_then(|since| match ExactTime::parse_offset(&since) {
        Ok(time) => Some(time),
        Err(e) => {
            parameters.refuse("since", "datetime", e.to_string());
            None
        }
    });
    let text = parameters.text("q").map(|q| TextQuery::new(&q));

    if !parameters.errors.is_empty() {
        return Err(parameters.errors);
    }
    let limit = u16::try_from(limit).expect("it is at most PAGE_LIMIT_MAX");
    Ok((Filter { sender, since, text }, Page { limit, offset }))
}

struct Parameters<'a> {
    query: &'a str,
    errors: Vec<InvalidField>,
}

impl<'a> Parameters<'a> {
    fn refuse(&mut self, name: &'static str, rule: &'static str, msg: String) {
        self.errors.push(InvalidField { rule, loc: vec!["query".into(), name.into()], msg });
    }

    /// The decoded value of a parameter; `None` if it is not there, empty or refused.
    fn text(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
        let decoded = |raw: &'a str| -> Option<Cow<'a, str>> {
            if raw.contains('+') {
                let spaced = raw.replace('+', " ");
                let text = percent_decode_str(&spaced).decode_utf8().ok()?;
                return Some(Cow::Owned(text.into_owned()));
            }
            percent_decode_str(raw).decode_utf8().ok()
        };
        let mut values = self
            .query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(|(key, _)| decoded(key).is_some_and(|key| key == name))
            .map(|(_, value)| value);
        let value = values.next()?;
        if values.next().is_some() {
            self.refuse(name, "repeated", "must not be given more than once".to_owned());
            return None;
        }
        match decoded(value) {
            Some(text) if text.is_empty() => None,
            Some(text) => Some(text),
            None => {
                self.refuse(name, "string_unicode", "must be UTF-8".to_owned());
                None
            }
        }
    }

    /// A whole number in decimal digits.
    fn number(&mut self, name: &'static str, min: u64, max: u64, default: u64) -> u64 {
        let Some(text) = self.text(name) else {
            return default;
        };
        let is_digits = text.bytes().all(|c| c.is_ascii_digit());
        match text.parse() {
            Ok(number) if is_digits && (min..=max).contains(&number) => number,
            _ => {
                self.refuse(name, "integer_range", format!("must be a whole number from {min} to {max}"));
                default
            }
        }
    }
}
