//! Error answers of each path, described by the errors themselves.

use std::collections::btree_map::Entry;

use actix_web::ResponseError;
use actix_web::body::MessageBody;
use actix_web::http::header::CONTENT_TYPE;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::{
    ContentBuilder, Header, Object, OpenApi, Ref, RefOr, ResponseBuilder, Responses, Type,
};

use super::ERRORS;
use crate::error::{ApiError, ErrorBody, ValidationErrorBody};

/// Adds its error answers to each operation.
pub(super) fn describe(openapi: &mut OpenApi) {
    for (path, errors) in ERRORS {
        let item = openapi.paths.paths.get_mut(path).expect("every path with errors is described");
        let operation = item.get.as_mut().or(item.post.as_mut()).expect("each path has GET or POST");
        for error in errors() {
            add(&mut operation.responses, &error);
        }
    }
}

/// Adds an answer, or adds its reason to the answer of the same status.
fn add(responses: &mut Responses, error: &ApiError) {
    let answer = error.error_response();
    let status = answer.status().as_str().to_owned();
    let headers = answer.headers().clone();
    let Ok(Ok(body)) =
        answer.into_body().try_into_bytes().map(|bytes| serde_json::from_slice::<Value>(&bytes))
    else {
        unreachable!("the body of every error is a JSON object");
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
