//! The parameters of `GET /messages`: `parse` agrees with the URL standard's decoder and the contract's table.

use std::borrow::Cow;

use api::error::InvalidField;
use api::routes::cursor;
use api::routes::parameters;
use domain::query::{Filter, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, Page};
use domain::text_query::TextQuery;
use domain::time::ExactTime;
use form_urlencoded::Serializer;

/// The cursor of a page that ends with a message `m1` of 2025-01-15T09:00:00Z.
const PLACE: &str = "WzE3MzY5MzE2MDAwMDAwMDAsIiIsIm0xIiwxXQ";

/// Input: a query string.
pub fn check(input: &[u8]) {
    let Ok(query) = std::str::from_utf8(input) else {
        return;
    };
    let parsed = parameters::parse(query);
    assert_eq!(parameters::parse(&format!("{query}&unknown=1")), parsed, "what is unknown is ignored");
    match &parsed {
        Ok((filter, page)) => {
            check_round_trip(filter, page);
            check_next(query, filter, page.limit);
        }
        Err(errors) => assert!(errors.iter().all(|e| e.loc.len() == 2 && e.loc[0] == "query"), "{errors:?}"),
    }
    if let Some(want) = read(query) {
        assert_eq!(parsed.map_err(|errors| names(&errors)), want, "{query:?}");
    }
}

/// The parameters that are complained of, in the order of the contract.
pub(crate) fn names(errors: &[InvalidField]) -> Vec<String> {
    errors.iter().map(|error| error.loc[1].to_string()).collect()
}

/// All but `since`, which has many spellings.
fn check_round_trip(filter: &Filter, page: &Page) {
    let mut query = Serializer::new(String::new());
    query.append_pair("limit", &page.limit.to_string()).append_pair("offset", &page.offset.to_string());
    if let Some(place) = &page.after {
        query.append_pair("cursor", &cursor::encode(place));
    }
    if let Some(sender) = &filter.sender {
        query.append_pair("from", sender);
    }
    if let Some(text) = &filter.text {
        query.append_pair("q", text.folded());
    }
    let filter = Filter { since: None, ..filter.clone() };
    assert_eq!(parameters::parse(&query.finish()), Ok((filter, page.clone())));
}

/// The next page has the same filters and limit, and its URL can stand in a header.
fn check_next(query: &str, filter: &Filter, limit: u16) {
    let place = cursor::decode(PLACE).expect("it is a cursor");
    let next = parameters::next(query, limit, &place);
    assert!(next.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~%=&".contains(&c)), "{next}");
    assert_eq!(parameters::parse(&next), Ok((filter.clone(), Page::after(limit, place))));
}

/// Returns the meaning of the parameters, or the names of the wrong ones. `None` if a value may not be UTF-8, which the
/// URL standard's decoder does not tell.
fn read(query: &str) -> Option<Result<(Filter, Page), Vec<String>>> {
    let mut wrong = Vec::new();
    let mut value = |name: &str, rule: fn(&str) -> bool| -> Option<Cow<'_, str>> {
        let pairs = form_urlencoded::parse(query.as_bytes());
        let mut values = pairs.filter(|(key, _)| key == name).map(|(_, value)| value);
        let first = values.next()?;
        let is_one = values.next().is_none();
        if is_one && first.is_empty() && ["from", "since", "q"].contains(&name) {
            return None;
        }
        if !is_one || !rule(&first) {
            wrong.push(name.to_owned());
        }
        Some(first)
    };
    let limit = value("limit", |v| number(v).is_some_and(|n| (1..=PAGE_LIMIT_MAX.into()).contains(&n)));
    let offset = value("offset", |v| number(v).is_some_and(|n| i64::try_from(n).is_ok()));
    let sender = value("from", |_| true);
    let since = value("since", |v| time(v).is_some());
    let text = value("q", |_| true);
    let after = value("cursor", |v| cursor::decode(v).is_some());

    let values = [&limit, &offset, &sender, &since, &text, &after];
    if values.iter().any(|v| v.as_ref().is_some_and(|v| v.contains(char::REPLACEMENT_CHARACTER))) {
        return None;
    }
    if !wrong.is_empty() {
        return Some(Err(wrong));
    }
    let filter = Filter {
        sender: sender.map(|v| if v.starts_with(' ') { v.replacen(' ', "+", 1) } else { v.into_owned() }),
        since: since.and_then(|v| time(&v)),
        text: text.map(|v| TextQuery::new(&v)),
    };
    let page = Page {
        limit: limit.map_or(PAGE_LIMIT_DEFAULT, |v| v.parse().unwrap()),
        offset: offset.map_or(0, |v| v.parse().unwrap()),
        after: after.and_then(|v| cursor::decode(&v)),
    };
    Some(Ok((filter, page)))
}

fn number(text: &str) -> Option<u128> {
    text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

fn time(text: &str) -> Option<ExactTime> {
    ExactTime::parse_offset(&text.replace(' ', "+")).ok()
}
