//! Parameters of `GET /messages`. A query string becomes a [`Filter`] and a [`Page`], or a list of every broken rule.

use std::borrow::Cow;

use domain::query::{Filter, OFFSET_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, Page, Place};
use domain::text_query::TextQuery;
use domain::time::ExactTime;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{Object, RefOr, Required, Schema};

use crate::error::InvalidField;
use crate::routes::cursor;
use crate::schema;

/// Characters that are escaped: all but those that RFC 3986 calls unreserved (section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Parses the parameters of a listing. Unknown parameters are ignored, and an empty filter is no filter.
///
/// # Errors
/// [`InvalidField`] for each parameter that breaks its rule, not only the first.
pub fn parse(query: &str) -> Result<(Filter, Page), Vec<InvalidField>> {
    let mut parameters = Parameters { query, errors: Vec::new() };
    let limit = parameters.number("limit", 1, PAGE_LIMIT_MAX.into(), PAGE_LIMIT_DEFAULT.into());
    let offset = parameters.number("offset", 0, OFFSET_MAX, 0);
    let sender = parameters.sender();
    let since = parameters.since().and_then(|since| match ExactTime::parse_offset(&since) {
        Ok(time) => Some(time),
        Err(e) => {
            parameters.refuse("since", "datetime", e.to_string());
            None
        }
    });
    let text = parameters.text().map(|q| TextQuery::new(&q));
    let after = parameters.value("cursor").and_then(|cursor| {
        let place = cursor::decode(&cursor);
        if place.is_none() {
            parameters.refuse("cursor", "cursor", "must be taken from the Link header of a page".to_owned());
        }
        place
    });

    if !parameters.errors.is_empty() {
        return Err(parameters.errors);
    }
    let limit = u16::try_from(limit).expect("the limit is at most PAGE_LIMIT_MAX");
    Ok((Filter { sender, since, text }, Page { limit, offset, after }))
}

/// Returns the query string of the page after `place`: the filters of `query` as they were given, `limit`, and a cursor.
#[must_use]
pub fn next(query: &str, limit: u16, place: &Place) -> String {
    let mut parameters = Parameters { query, errors: Vec::new() };
    let filters = [
        ("from", parameters.sender().map(Cow::Owned)),
        ("since", parameters.since().map(Cow::Owned)),
        ("q", parameters.text()),
    ];
    let mut next = String::new();
    for (name, value) in filters {
        if let Some(value) = value {
            next += &format!("{name}={}&", utf8_percent_encode(&value, RESERVED));
        }
    }
    next + &format!("limit={limit}&cursor={}", cursor::encode(place))
}

/// Schemas of the parameters.
pub(crate) struct ListParameters;

impl IntoParams for ListParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let cursor = schema::string().min_length(Some(1)).examples([cursor::EXAMPLE]);
        let sender = schema::string().examples(["+919876543210"]);
        let text = schema::string().examples(["hello"]);
        vec![
            parameter("limit", "Most messages of the page.", schema::limit()),
            parameter("offset", "Number of messages to skip.", schema::offset()),
            parameter("cursor", "Position after a page, from its `Link` header.", cursor),
            parameter("from", "Only messages of this sender. A leading space is read as `+`.", sender),
            parameter("since", "Only messages of this time or later.", or_empty(schema::since())),
            parameter(
                "q",
                "Only messages whose text contains this, in upper or lower case. No character is special.",
                text,
            ),
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

/// Allows the empty text, too: an empty filter is no filter.
fn or_empty(schema: Object) -> Schema {
    AnyOfBuilder::new().item(schema).item(schema::string().max_length(Some(0))).into()
}

/// Query string that is being parsed, and the rules that it breaks.
struct Parameters<'a> {
    query: &'a str,
    errors: Vec<InvalidField>,
}

impl<'a> Parameters<'a> {
    fn refuse(&mut self, name: &'static str, rule: &'static str, msg: String) {
        self.errors.push(InvalidField { rule, loc: vec!["query".into(), name.into()], msg });
    }

    /// Returns `from`. A + that was not encoded arrives as a space.
    fn sender(&mut self) -> Option<String> {
        self.filter("from").map(|from| match from.strip_prefix(' ') {
            Some(digits) => format!("+{digits}"),
            None => from.into_owned(),
        })
    }

    /// Returns `since`. The + of its offset may arrive as a space, too.
    fn since(&mut self) -> Option<String> {
        self.filter("since").map(|since| since.replace(' ', "+"))
    }

    /// Returns `q`.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        self.filter("q")
    }

    /// Returns the decoded value of a filter; `None` if it is empty.
    fn filter(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// Returns the decoded value of a parameter; `None` if it is missing or refused.
    fn value(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
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
        let text = decoded(value);
        if text.is_none() {
            self.refuse(name, "string_unicode", "must be UTF-8".to_owned());
        }
        text
    }

    /// Returns a whole number in decimal digits.
    fn number(&mut self, name: &'static str, min: u64, max: u64, default: u64) -> u64 {
        let Some(text) = self.value(name) else {
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
