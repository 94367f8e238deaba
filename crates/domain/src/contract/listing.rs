//! Promises of [`list`](crate::query::MessageQuery::list): order, filters and pages.

use super::ask::{append, ids, list, since_filter, text_filter};
use super::{Sample, Stores};
use crate::query::{Filter, Listing, Message, Page, Stats};
use crate::time::{ExactTime, FRACTION_DIGITS_MAX};

pub(super) async fn an_empty_store_answers_with_nothing(stores: &dyn Stores) {
    let store = &*stores.open();
    assert_eq!(list(store, &Filter::default()).await, Listing { messages: vec![], total: 0, next: None });
    assert_eq!(store.stats().await.expect("stats"), Stats::default());
    assert!(append(store, &[]).await.is_empty());
}

pub(super) async fn order_is_by_time_then_by_id_in_byte_order(stores: &dyn Stores) {
    let store = &*stores.open();
    for (id, ts) in [
        ("whole", "2025-01-15T10:00:00Z"),
        ("tenth", "2025-01-15T10:00:00.1Z"),
        ("nano2", "2025-01-15T10:00:00.000000002Z"),
        ("nano1", "2025-01-15T10:00:00.000000001Z"),
        ("b", "2025-01-15T09:00:00Z"),
        ("B", "2025-01-15T09:00:00.000Z"),
        ("é", "2025-01-15T09:00:00Z"),
        ("old", "0000-01-01T00:00:00Z"),
        ("new", "9999-12-31T23:59:59.999999999Z"),
    ] {
        append(store, &[Sample::id(id).ts(ts)]).await;
    }
    let want = ["old", "B", "b", "é", "whole", "nano1", "nano2", "tenth", "new"];
    assert_eq!(ids(store, &Filter::default()).await, want);
    let stats = store.stats().await.expect("stats");
    assert_eq!(stats.first_message_ts.expect("first").as_str(), "0000-01-01T00:00:00Z");
    assert_eq!(stats.last_message_ts.expect("last").as_str(), "9999-12-31T23:59:59.999999999Z");
}

pub(super) async fn since_is_inclusive_and_exact(stores: &dyn Stores) {
    let store = &*stores.open();
    for (id, ts) in [
        ("a", "2025-01-15T09:59:59.9999999Z"),
        ("b", "2025-01-15T10:00:00Z"),
        ("c", "2025-01-15T10:00:00.0000001Z"),
    ] {
        append(store, &[Sample::id(id).ts(ts)]).await;
    }
    assert_eq!(ids(store, &since_filter("2025-01-15T10:00:00Z")).await, ["b", "c"]);
    assert_eq!(ids(store, &since_filter("2025-01-15T09:59:59.9999999Z")).await, ["a", "b", "c"]);
    assert_eq!(ids(store, &since_filter("2025-01-15T10:00:00.0000001Z")).await, ["c"]);
    assert!(ids(store, &since_filter("2025-01-15T10:00:00.00000011Z")).await.is_empty());
}

pub(super) async fn filters_are_anded(stores: &dyn Stores) {
    let store = &*stores.open();
    for (id, from, ts, text) in [
        ("1", "+1", "2025-01-15T10:00:00Z", "apple"),
        ("2", "+1", "2025-01-15T11:00:00Z", "apple"),
        ("3", "+1", "2025-01-15T11:00:00Z", "pear"),
        ("4", "+12", "2025-01-15T11:00:00Z", "apple"),
    ] {
        append(store, &[Sample::id(id).from(from).ts(ts).text(Some(text))]).await;
    }
    let sender = Some("+1".to_owned());
    let since = since_filter("2025-01-15T11:00:00Z").since;
    let text = text_filter("APPLE").text;
    let with = |sender, since, text| Filter { sender, since, text };
    assert_eq!(ids(store, &with(sender.clone(), None, None)).await, ["1", "2", "3"]);
    assert_eq!(ids(store, &with(sender.clone(), since.clone(), None)).await, ["2", "3"]);
    assert_eq!(ids(store, &with(sender.clone(), None, text.clone())).await, ["1", "2"]);
    assert_eq!(ids(store, &with(None, since.clone(), text.clone())).await, ["2", "4"]);
    assert_eq!(ids(store, &with(sender, since, text)).await, ["2"]);
    assert!(ids(store, &with(Some("1".to_owned()), None, None)).await.is_empty());
    assert!(ids(store, &with(Some(String::new()), None, None)).await.is_empty());
}

pub(super) async fn a_page_is_a_stretch_of_the_order_and_total_is_of_all(stores: &dyn Stores) {
    let store = &*stores.open();
    for n in 0..25 {
        append(store, &[Sample::id(&format!("m{n:02}"))]).await;
    }
    for (limit, offset) in [(10, 0), (10, 10), (10, 20), (1, 24), (1, 25), (100, 0), (5, u64::MAX)] {
        let listing = store.list(&Filter::default(), &Page::at(limit, offset)).await.expect("list");
        let got: Vec<&str> = listing.messages.iter().map(|m| m.key.message_id.as_str()).collect();
        let want: Vec<String> = (0..25_u64)
            .filter(|n| *n >= offset && n - offset < u64::from(limit))
            .map(|n| format!("m{n:02}"))
            .collect();
        assert_eq!(got, want, "limit {limit} offset {offset}");
        assert_eq!(listing.total, 25);
    }
}

/// A store that counts messages by the second skipped those before `since` twice: once in its counts, once by the
/// filter.
pub(super) async fn a_deep_page_since_the_middle_of_a_second_begins_where_it_should(stores: &dyn Stores) {
    let store = &*stores.open();
    let before = (0..10).map(|n| Sample::id(&format!("before{n}")));
    let crowd = (0..1_500).map(|n| Sample::id(&format!("m{n:04}")).ts("2025-01-15T10:00:00.1Z"));
    append(store, &before.chain(crowd).collect::<Vec<_>>()).await;
    let since = ExactTime::parse_utc("2025-01-15T10:00:00.1Z").expect("a time");
    let filter = Filter { since: Some(since), ..Filter::default() };
    for offset in [0, 999, 1_000, 1_490, 1_499] {
        let listing = store.list(&filter, &Page::at(1, offset)).await.expect("list");
        let got: Vec<&str> = listing.messages.iter().map(|m| m.key.message_id.as_str()).collect();
        assert_eq!((got, listing.total), (vec![format!("m{offset:04}").as_str()], 1_500));
    }
}

/// Goal: who walks from page to page sees every message that was there, once. Method: between two pages
/// messages come in before, at and after the place.
pub(super) async fn pages_after_a_place_are_the_listing_whatever_comes_in_between(stores: &dyn Stores) {
    let store = &*stores.open();
    for n in 10..35 {
        let sample = Sample::id(&format!("m{n}")).from(if n % 5 == 0 { "+5" } else { "+1" });
        append(store, &[sample.text(Some(if n % 3 == 0 { "third" } else { "other" }))]).await;
    }
    let sender = Filter { sender: Some("+5".to_owned()), ..Filter::default() };
    for (filter, every) in [(Filter::default(), 1), (sender, 5), (text_filter("third"), 3)] {
        let want: Vec<String> = (10..35).filter(|n| n % every == 0).map(|n| format!("m{n}")).collect();
        let mut seen = Vec::new();
        let mut page = Page::at(4, 0);
        loop {
            let listing = store.list(&filter, &page).await.expect("list");
            assert_eq!(listing.total, want.len() as u64);
            seen.extend(listing.messages.iter().map(|m| m.key.message_id.as_str().to_owned()));
            let Some(place) = listing.next else { break };
            assert_eq!(listing.messages.len(), 4);
            assert_eq!(listing.messages.last().map(Message::place), Some(place.clone()));
            page = Page::after(4, place);
        }
        assert_eq!(seen, want);
    }
    let first = store.list(&Filter::default(), &Page::at(10, 0)).await.expect("list");
    let place = first.next.expect("there are more");
    for (id, ts) in
        [("a", "2020-01-01T00:00:00Z"), ("m195", "2025-01-15T10:00:00Z"), ("z", "2030-01-01T00:00:00Z")]
    {
        append(store, &[Sample::id(id).ts(ts)]).await;
    }
    let rest = store.list(&Filter::default(), &Page::after(100, place)).await.expect("list");
    let seen: Vec<&str> = rest.messages.iter().map(|m| m.key.message_id.as_str()).collect();
    let want: Vec<String> = (20..35).map(|n| format!("m{n}")).collect();
    assert_eq!(seen[0], "m195", "it came in after the place");
    assert_eq!(seen[1..16], want);
    assert_eq!(seen[16..], ["z"]);
}

/// Byte order is neither that of UTF-16 nor that of any language.
pub(super) async fn ids_are_listed_in_byte_order(stores: &dyn Stores) {
    let store = &*stores.open();
    let want = ["10", "2", "A", "Z", "_", "a", "z", "Ä", "é", "\u{ffee}", "\u{10000}", "🙏"];
    for id in want.iter().rev() {
        append(store, &[Sample::id(id)]).await;
    }
    assert_eq!(ids(store, &Filter::default()).await, want);
}

/// Goal: every digit of a fraction counts, up to the most that are allowed. Method: times that differ in their last digit.
pub(super) async fn a_fraction_of_any_allowed_length_counts(stores: &dyn Stores) {
    let store = &*stores.open();
    let mut times: Vec<String> = (1..=FRACTION_DIGITS_MAX)
        .map(|n_digits| format!("2025-01-15T10:00:00.{}1Z", "0".repeat(n_digits - 1)))
        .collect();
    for (n, ts) in times.iter().enumerate() {
        append(store, &[Sample::id(&format!("m{n:02}")).ts(ts)]).await;
    }
    // The more zeros, the earlier.
    times.reverse();
    let listing = list(store, &Filter::default()).await;
    let listed: Vec<&str> = listing.messages.iter().map(|m| m.sent_at.as_str()).collect();
    assert_eq!(listed, times);
    for (n, ts) in times.iter().enumerate() {
        assert_eq!(list(store, &since_filter(ts)).await.total, (times.len() - n) as u64, "since {ts}");
    }
}
