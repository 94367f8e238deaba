//! Promises of [`MessageStore`](crate::store::MessageStore): what is stored, once, and how it comes back.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::ask::{append, ids, list, stored};
use super::{Sample, Stores};
use crate::message::MessageText;
use crate::query::Filter;
use crate::store::Appended;

pub(super) async fn the_first_message_of_a_key_is_stored_and_the_second_is_not(stores: &dyn Stores) {
    let store = &*stores.open();
    let first = Sample::id("m1");
    let second = Sample::id("m1").from("+1").text(Some("another")).ts("2020-01-01T00:00:00Z");
    let seq = stored(append(store, std::slice::from_ref(&first)).await[0]);
    let digest = Some(first.message().verified.body_digest);
    assert_eq!(append(store, &[second]).await, [Appended::Existing { seq, digest }]);
    let listing = list(store, &Filter::default()).await;
    assert_eq!(listing.total, 1);
    assert_eq!(listing.messages[0].text.as_ref().map(MessageText::as_str), Some("Hello"));
    assert_eq!(store.stats().await.expect("stats").senders_count, 1);
}

pub(super) async fn a_key_twice_in_one_delivery_is_stored_once(stores: &dyn Stores) {
    let store = &*stores.open();
    let appended = append(store, &[Sample::id("m1"), Sample::id("m1").text(Some("again"))]).await;
    let seq = stored(appended[0]);
    let digest = Some(Sample::id("m1").message().verified.body_digest);
    assert_eq!(appended[1], Appended::Existing { seq, digest });
    assert_eq!(ids(store, &Filter::default()).await, ["m1"]);
    assert_eq!(store.stats().await.expect("stats").total_messages, 1);
}

pub(super) async fn a_delivery_is_answered_in_its_order(stores: &dyn Stores) {
    let store = &*stores.open();
    append(store, &[Sample::id("m2")]).await;
    let appended = append(store, &[Sample::id("m1"), Sample::id("m2"), Sample::id("m3")]).await;
    let first = stored(appended[0]);
    assert!(matches!(appended[1], Appended::Existing { .. }));
    assert!(first < stored(appended[2]));
}

pub(super) async fn ids_are_compared_byte_for_byte(stores: &dyn Stores) {
    let store = &*stores.open();
    let ids_sent = ["a", "A", " a", "a ", "a\u{0}", "a\u{0}b", "é", "e\u{301}", "\u{feff}a"];
    for id in ids_sent {
        stored(append(store, &[Sample::id(id)]).await[0]);
    }
    let mut sorted = ids_sent.map(str::to_owned).to_vec();
    sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(ids(store, &Filter::default()).await, sorted);
}

pub(super) async fn one_id_of_two_sources_is_two_messages(stores: &dyn Stores) {
    let store = &*stores.open();
    let mut other = Sample::id("m1");
    other.source = "billing".to_owned();
    stored(append(store, &[Sample::id("m1")]).await[0]);
    stored(append(store, &[other.clone()]).await[0]);
    assert!(matches!(append(store, &[other]).await[0], Appended::Existing { .. }));
    let listing = list(store, &Filter::default()).await;
    let sources: Vec<&str> = listing.messages.iter().map(|m| m.key.source.as_str()).collect();
    assert_eq!(sources, ["default", "billing"], "equal in time and id, so in order of arrival");
}

/// Goal: a sender that hangs up while its message is being written changes nothing for the others,
/// and the message is stored. Method: poll the append once, drop it, and append another one, which
/// can't overtake it.
pub(super) async fn a_caller_that_hangs_up_does_not_lose_the_message(stores: &dyn Stores) {
    let store = &*stores.open();
    {
        let mut hung_up = pin!(store.append(vec![Sample::id("m1").message()]));
        let polled = hung_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(result) = polled {
            result.expect("append");
        }
    }
    append(store, &[Sample::id("m2")]).await;
    assert_eq!(ids(store, &Filter::default()).await, ["m1", "m2"]);
}

pub(super) async fn what_was_stored_comes_back_as_it_was_sent(stores: &dyn Stores) {
    let store = &*stores.open();
    let texts = [None, Some(""), Some("a\u{0}b"), Some("नमस्ते 🙏🏽 שלום"), Some("'; DROP TABLE messages; --")];
    for (i, text) in texts.iter().enumerate() {
        let sample = Sample::id(&format!("m{i}")).ts("2025-01-15T10:00:00.120Z").text(*text);
        append(store, &[sample]).await;
    }
    let listing = list(store, &Filter::default()).await;
    for (message, text) in listing.messages.iter().zip(texts) {
        assert_eq!(message.text.as_ref().map(MessageText::as_str), text);
        assert_eq!(message.sent_at.as_str(), "2025-01-15T10:00:00.120Z");
        assert_eq!(message.sender.as_str(), "+919876543210");
        assert_eq!(message.recipient.as_str(), "+14155550100");
    }
    assert_eq!(listing.total, 5);
}
