//! What requests are answered that are not answered 200. It is asked of the errors themselves.

use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use actix_web::ResponseError;
use actix_web::body::MessageBody;
use actix_web::http::header::CONTENT_TYPE;
use domain::ingest::IngestError;
use domain::payload;
use domain::signature::Refusal;
use domain::store::{StoreError, StoreErrorKind};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::{
    ContentBuilder, Header, Object, OpenApi, Ref, RefOr, ResponseBuilder, Responses, Type,
};

use crate::config::BODY_BYTES_MAX_DEFAULT;
use crate::error::{ApiError, ErrorBody, ValidationErrorBody};
use crate::limits::bodies::{BODIES, CLIENT_BODIES};
use crate::limits::queries::{CLIENT_LOOK_UPS, CLIENT_SEARCHES};
use crate::router::WEBHOOK;
use crate::routes::parameters;
use crate::routes::{messages, webhook};

/// Adds to each operation the answers to what can go wrong with it.
pub(super) fn describe(openapi: &mut OpenApi) {
    for (path, errors) in examples() {
        let item = openapi.paths.paths.get_mut(path).expect("the routes are described");
        let operation = item.get.as_mut().or(item.post.as_mut()).expect("each path has one or the other");
        for error in errors {
            add(&mut operation.responses, &error);
        }
    }
}

/// Every error that a path can be answered with.
fn examples() -> [(&'static str, Vec<ApiError>); 5] {
    let busy = || StoreError { kind: StoreErrorKind::Busy, operation: "", source: Arc::new(fmt::Error) };
    let store = || ApiError::Store(busy());
    let webhook = vec![
        ApiError::Incomplete,
        ApiError::Ingest(IngestError::Refused(Refusal::Mismatch)),
        ApiError::TooSlow { bytes: None, secs: webhook::BODY_TIME_MAX.as_secs() },
        ApiError::TooSlow {
            bytes: Some(webhook::BODY_BYTES_PER_PERIOD_MIN),
            secs: webhook::BODY_PERIOD.as_secs(),
        },
        ApiError::TooLarge { max: BODY_BYTES_MAX_DEFAULT.parse().expect("it is a number") },
        ApiError::Ingest(payload::decode(b"{}").expect_err("every field is missing").into()),
        ApiError::TooManyRefusals { retry_secs: 1 },
        store(),
        ApiError::Overloaded(BODIES),
        ApiError::Overloaded(CLIENT_BODIES),
        ApiError::Ingest(IngestError::NoSecret),
    ];
    let invalid_query = parameters::parse("limit=0").expect_err("it is too small");
    [
        (WEBHOOK, webhook),
        (
            "/messages",
            vec![
                ApiError::NoToken,
                ApiError::UnknownHost,
                ApiError::InvalidQuery(invalid_query),
                store(),
                ApiError::Search(busy()),
                ApiError::Overloaded(CLIENT_SEARCHES),
                ApiError::Overloaded(CLIENT_LOOK_UPS),
                ApiError::Overloaded(messages::LISTINGS),
            ],
        ),
        (
            "/stats",
            vec![ApiError::NoToken, ApiError::UnknownHost, store(), ApiError::Overloaded(CLIENT_LOOK_UPS)],
        ),
        ("/metrics", vec![ApiError::NoToken, ApiError::UnknownHost]),
        ("/openapi.json", vec![ApiError::NoToken, ApiError::UnknownHost]),
    ]
}

/// Adds an answer, or to one of the same status that it can have this reason, too.
fn add(responses: &mut Responses, error: &ApiError) {
    let answer = error.error_response();
    let status = answer.status().as_str().to_owned();
    let headers = answer.headers().clone();
    let Ok(Ok(body)) =
        answer.into_body().try_into_bytes().map(|bytes| serde_json::from_slice::<Value>(&bytes))
    else {
        unreachable!("every error is answered with a JSON object");
    };
    let reason = body["detail"].as_str().map_or_else(|| error.to_string(), str::to_owned);
    let schema = if body["detail"].is_array() { ValidationErrorBody::name() } else { ErrorBody::name() };

    match responses.responses.entry(status) {
        Entry::Occupied(mut same) => {
            if let RefOr::T(response) = same.get_mut() {
                response.description += &format!("; or: {reason}");
            }
        }
        Entry::Vacant(first) => {
            let content =
                ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).example(Some(body));
            let mut response =
                ResponseBuilder::new().description(reason).content("application/json", content);
            for (name, value) in headers.iter().filter(|(name, _)| *name != CONTENT_TYPE) {
                let is_number = value.as_bytes().iter().all(u8::is_ascii_digit);
                let schema = Object::with_type(if is_number { Type::Integer } else { Type::String });
                response = response.header(name.as_str(), Header::new(schema));
            }
            first.insert(response.into());
        }
    }
}
