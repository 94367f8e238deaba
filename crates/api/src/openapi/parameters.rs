//! The parameters of queries, which `routes/messages.rs` reads.

use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{Object, RefOr, Required, Schema};

use crate::routes::cursor;
use crate::schema as fields;

/// Those of `GET /messages`.
pub(crate) struct ListParameters;

impl IntoParams for ListParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let cursor = fields::string().min_length(Some(1)).examples([cursor::EXAMPLE]);
        let sender = fields::string().examples(["+919876543210"]);
        let text = fields::string().examples(["hello"]);
        vec![
            parameter("limit", "How many messages at most.", fields::limit()),
            parameter("offset", "How many to leave out before the first.", fields::offset()),
            parameter("cursor", "Only what comes after a page: from its `Link` header.", cursor),
            parameter("from", "Exactly this sender. A leading space is taken for a `+`.", sender),
            parameter("since", "At this time or later.", or_empty(fields::since())),
            parameter("q", "With this in the text, in any case. No character is special.", text),
        ]
    }
}

fn parameter(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// An empty filter counts as not given.
fn or_empty(schema: Object) -> Schema {
    AnyOfBuilder::new().item(schema).item(fields::string().max_length(Some(0))).into()
}
