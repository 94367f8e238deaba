//! JSON Schema of single values. Each limit is the constant that the code enforces.

use domain::message::{MESSAGE_ID_BYTES_MAX, PHONE_DIGITS_MAX, TEXT_CHARS_MAX};
use domain::query::{OFFSET_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX};
use domain::time::FRACTION_DIGITS_MAX;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};

/// Pattern of the date and time of day of a [`domain::time::ExactTime`]. `format` says that the date is real.
const LOCAL_TIME: &str = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]";

pub(crate) fn message_id() -> Object {
    string()
        .description(Some(
            "Idempotency key, compared byte for byte. Its length is counted in bytes of UTF-8.",
        ))
        .min_length(Some(1))
        .max_length(Some(MESSAGE_ID_BYTES_MAX))
        .build()
}

pub(crate) fn phone_number() -> Object {
    string().pattern(Some(format!(r"^\+[0-9]{{1,{PHONE_DIGITS_MAX}}}$"))).build()
}

pub(crate) fn sent_at() -> Object {
    time("Z").description(Some("Time when the message was sent, in UTC.")).build()
}

pub(crate) fn sent_at_or_null() -> Object {
    let mut schema = sent_at();
    schema.schema_type = or_null();
    schema
}

pub(crate) fn text() -> Object {
    of_type(or_null())
        .description(Some("Text of the message, or null."))
        .max_length(Some(TEXT_CHARS_MAX))
        .build()
}

pub(crate) fn since() -> Object {
    time(r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])").examples(["2025-01-15T15:30:00+05:30"]).build()
}

pub(crate) fn limit() -> Object {
    of_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(PAGE_LIMIT_MAX))
        .default(Some(PAGE_LIMIT_DEFAULT.into()))
        .build()
}

pub(crate) fn offset() -> Object {
    of_type(Type::Integer).minimum(Some(0)).maximum(Some(OFFSET_MAX)).default(Some(0.into())).build()
}

pub(crate) fn request_id() -> Object {
    string()
        .description(Some("`request_id` of the line in the log."))
        .format(Some(SchemaFormat::Custom("uuid".to_owned())))
        .build()
}

pub(crate) fn string() -> ObjectBuilder {
    of_type(Type::String)
}

fn time(zone: &str) -> ObjectBuilder {
    string()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .pattern(Some(format!(r"^{LOCAL_TIME}(\.[0-9]{{1,{FRACTION_DIGITS_MAX}}})?{zone}$")))
}

fn of_type(schema_type: impl Into<SchemaType>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(schema_type)
}

fn or_null() -> SchemaType {
    SchemaType::from_iter([Type::String, Type::Null])
}
