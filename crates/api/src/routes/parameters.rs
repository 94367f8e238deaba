//! The parameters of `GET /messages`: a query string in, a [`Filter`] and a [`Page`] or every broken rule out; and
//! the query string of the page that follows.

use std::borrow::Cow;

use domain::query::{Filter, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, Page, Place, TextQuery};
use domain::time::ExactTime;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::InvalidField;
use crate::routes::cursor;

/// Largest offset: an integer of SQLite goes no further.
pub(crate) const OFFSET_MAX: u64 = i64::MAX.unsigned_abs();

/// All but what RFC 3986 calls unreserved (section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Reads the parameters of a listing; every mistake, not only the first. Unknown parameters are
/// ignored, an empty filter is none.
///
/// # Errors
/// An [`InvalidField`] for each parameter that breaks its rule.
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
    let limit = u16::try_from(limit).expect("it is at most PAGE_LIMIT_MAX");
    Ok((Filter { sender, since, text }, Page { limit, offset, after }))
}

/// The query string of the page after `place`: the filters of `query` as they were given, `limit`, and a cursor.
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

struct Parameters<'a> {
    query: &'a str,
    errors: Vec<InvalidField>,
}

impl<'a> Parameters<'a> {
    fn refuse(&mut self, name: &'static str, rule: &'static str, msg: String) {
        self.errors.push(InvalidField { rule, loc: vec!["query".into(), name.into()], msg });
    }

    /// `from`. A + that was not encoded arrives as a space.
    fn sender(&mut self) -> Option<String> {
        self.filter("from").map(|from| match from.strip_prefix(' ') {
            Some(digits) => format!("+{digits}"),
            None => from.into_owned(),
        })
    }

    /// `since`, in which the + of a zone's offset may have arrived as a space, too.
    fn since(&mut self) -> Option<String> {
        self.filter("since").map(|since| since.replace(' ', "+"))
    }

    /// `q`.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        self.filter("q")
    }

    /// The decoded value of a filter, which may be empty: it is none then.
    fn filter(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// The decoded value of a parameter; `None` if it is not there or refused.
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

    /// A whole number in decimal digits.
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
