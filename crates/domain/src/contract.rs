//! What every adapter of the storage ports must keep: one function per promise, listed in
//! [`PROMISES`]. Each takes an empty store and panics where the promise is broken.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::join_all;

use crate::message::{Content, MessageId, MessageText, NewMessage, PhoneNumber, SentAt};
use crate::query::{Filter, Listing, Message, MessageQuery, Page, Stats, TextQuery};
use crate::signature::{BodyDigest, Verified};
use crate::source::SourceName;
use crate::store::{Appended, MessageStore, Seq};
use crate::time::{ExactTime, Timestamp};

/// What is tested: both ports on one store.
pub trait Store: MessageStore + MessageQuery {}
impl<T: MessageStore + MessageQuery> Store for T {}

/// A promise on an empty store.
pub type Promise = for<'a> fn(&'a dyn Store) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        /// Every promise by its name.
        pub const PROMISES: &[(&str, Promise)] = &[$((stringify!($name), |store| Box::pin($name(store)))),*];
    };
}
promises![
    an_empty_store_answers_with_nothing,
    the_first_message_of_a_key_is_stored_and_the_second_is_not,
    of_racing_appends_exactly_one_stores,
    a_key_twice_in_one_delivery_is_stored_once,
    a_delivery_is_answered_in_its_order,
    ids_are_compared_byte_for_byte,
    one_id_of_two_sources_is_two_messages,
    an_appended_message_is_seen_by_the_next_query,
    a_caller_that_hangs_up_does_not_lose_the_message,
    what_was_stored_comes_back_as_it_was_sent,
    order_is_by_time_then_by_id_in_byte_order,
    since_is_inclusive_and_exact,
    filters_are_anded,
    text_is_found_without_regard_to_case_and_without_wildcards,
    a_page_is_a_stretch_of_the_order_and_total_is_of_all,
    a_deep_page_since_the_middle_of_a_second_begins_where_it_should,
    pages_after_a_place_are_the_listing_whatever_comes_in_between,
    stats_count_all_and_rank_the_senders,
    a_store_that_works_is_ready,
];

/// The parts of a message that a test cares about; the rest has a plain value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// `message_id`.
    pub id: String,
    /// `from`.
    pub from: String,
    /// `ts`.
    pub ts: String,
    /// `text`.
    pub text: Option<String>,
    /// The source.
    pub source: String,
}

impl Sample {
    /// A message with this id.
    #[must_use]
    pub fn id(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            from: "+919876543210".to_owned(),
            ts: "2025-01-15T10:00:00Z".to_owned(),
            text: Some("Hello".to_owned()),
            source: SourceName::DEFAULT.to_owned(),
        }
    }

    /// The same from this sender.
    #[must_use]
    pub fn from(mut self, from: &str) -> Self {
        self.from = from.to_owned();
        self
    }

    /// The same at this time.
    #[must_use]
    pub fn ts(mut self, ts: &str) -> Self {
        self.ts = ts.to_owned();
        self
    }

    /// The same with this text.
    #[must_use]
    pub fn text(mut self, text: Option<&str>) -> Self {
        self.text = text.map(str::to_owned);
        self
    }

    /// As it goes to a store. The digest is no real one: its bytes depend on the parts, which is
    /// all that a store can tell.
    #[must_use]
    pub fn message(&self) -> NewMessage {
        let body = format!("{self:?}");
        let mut digest = [0; 32];
        for (i, byte) in body.bytes().enumerate() {
            digest[i % 32] = (digest[i % 32] ^ byte).rotate_left(3);
        }
        NewMessage {
            source: SourceName::parse(&self.source).expect("a valid sample"),
            content: Content {
                message_id: MessageId::parse(self.id.clone()).expect("a valid sample"),
                sender: PhoneNumber::parse(self.from.clone()).expect("a valid sample"),
                recipient: PhoneNumber::parse("+14155550100".to_owned()).expect("a valid sample"),
                sent_at: SentAt::parse(self.ts.clone()).expect("a valid sample"),
                text: self.text.clone().map(|t| MessageText::parse(t).expect("a valid sample")),
            },
            body: Bytes::from(body),
            verified: Verified { body_digest: BodyDigest(digest) },
            received_at: Timestamp::from_micros(1_736_935_200_000_000),
        }
    }
}

async fn append(store: &dyn Store, samples: &[Sample]) -> Vec<Appended> {
    let messages = samples.iter().map(Sample::message).collect();
    store.append(messages).await.expect("append")
}

async fn list(store: &dyn Store, filter: &Filter) -> Listing {
    store.list(filter, &Page::at(100, 0)).await.expect("list")
}

async fn ids(store: &dyn Store, filter: &Filter) -> Vec<String> {
    let listing = list(store, filter).await;
    assert_eq!(listing.total, listing.messages.len() as u64);
    listing.messages.iter().map(|m| m.key.message_id.as_str().to_owned()).collect()
}

fn stored(appended: Appended) -> Seq {
    match appended {
        Appended::Stored(seq) => seq,
        Appended::Existing { .. } => panic!("{appended:?} where the first was expected"),
    }
}

fn text_filter(text: &str) -> Filter {
    Filter { text: Some(TextQuery::new(text)), ..Filter::default() }
}

fn since_filter(ts: &str) -> Filter {
    Filter { since: Some(ExactTime::parse_utc(ts).expect("a time")), ..Filter::default() }
}

async fn an_empty_store_answers_with_nothing(store: &dyn Store) {
    assert_eq!(list(store, &Filter::default()).await, Listing { messages: vec![], total: 0, next: None });
    assert_eq!(store.stats().await.expect("stats"), Stats::default());
    assert!(append(store, &[]).await.is_empty());
}

async fn the_first_message_of_a_key_is_stored_and_the_second_is_not(store: &dyn Store) {
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

async fn of_racing_appends_exactly_one_stores(store: &dyn Store) {
    let message = [Sample::id("m1")];
    let racers = (0..50).map(|_| append(store, &message));
    let results: Vec<Appended> = join_all(racers).await.into_iter().flatten().collect();
    let first: Vec<Seq> = results
        .iter()
        .filter_map(|a| match a {
            Appended::Stored(seq) => Some(*seq),
            Appended::Existing { .. } => None,
        })
        .collect();
    assert_eq!(first.len(), 1);
    for result in results {
        match result {
            Appended::Stored(seq) | Appended::Existing { seq, .. } => assert_eq!(seq, first[0]),
        }
    }
    assert_eq!(ids(store, &Filter::default()).await, ["m1"]);
}

async fn a_key_twice_in_one_delivery_is_stored_once(store: &dyn Store) {
    let appended = append(store, &[Sample::id("m1"), Sample::id("m1").text(Some("again"))]).await;
    let seq = stored(appended[0]);
    let digest = Some(Sample::id("m1").message().verified.body_digest);
    assert_eq!(appended[1], Appended::Existing { seq, digest });
    assert_eq!(ids(store, &Filter::default()).await, ["m1"]);
    assert_eq!(store.stats().await.expect("stats").total_messages, 1);
}

async fn a_delivery_is_answered_in_its_order(store: &dyn Store) {
    append(store, &[Sample::id("m2")]).await;
    let appended = append(store, &[Sample::id("m1"), Sample::id("m2"), Sample::id("m3")]).await;
    let first = stored(appended[0]);
    assert!(matches!(appended[1], Appended::Existing { .. }));
    assert!(first < stored(appended[2]));
}

async fn ids_are_compared_byte_for_byte(store: &dyn Store) {
    let ids_sent = ["a", "A", " a", "a ", "a\u{0}", "a\u{0}b", "é", "e\u{301}", "\u{feff}a"];
    for id in ids_sent {
        stored(append(store, &[Sample::id(id)]).await[0]);
    }
    let mut sorted = ids_sent.map(str::to_owned).to_vec();
    sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(ids(store, &Filter::default()).await, sorted);
}

async fn one_id_of_two_sources_is_two_messages(store: &dyn Store) {
    let mut other = Sample::id("m1");
    other.source = "billing".to_owned();
    stored(append(store, &[Sample::id("m1")]).await[0]);
    stored(append(store, &[other.clone()]).await[0]);
    assert!(matches!(append(store, &[other]).await[0], Appended::Existing { .. }));
    let listing = list(store, &Filter::default()).await;
    let sources: Vec<&str> = listing.messages.iter().map(|m| m.key.source.as_str()).collect();
    assert_eq!(sources, ["default", "billing"], "equal in time and id, so in order of arrival");
}

async fn an_appended_message_is_seen_by_the_next_query(store: &dyn Store) {
    for n in 1..=20_u64 {
        append(store, &[Sample::id(&format!("m{n}"))]).await;
        assert_eq!(list(store, &Filter::default()).await.total, n);
        assert_eq!(store.stats().await.expect("stats").total_messages, n);
    }
}

/// Goal: a sender that hangs up while its message is being written changes nothing for the others,
/// and the message is stored. Method: poll the append once, drop it, and append another one, which
/// can't overtake it.
async fn a_caller_that_hangs_up_does_not_lose_the_message(store: &dyn Store) {
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

async fn what_was_stored_comes_back_as_it_was_sent(store: &dyn Store) {
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

async fn order_is_by_time_then_by_id_in_byte_order(store: &dyn Store) {
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

async fn since_is_inclusive_and_exact(store: &dyn Store) {
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

async fn filters_are_anded(store: &dyn Store) {
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

async fn text_is_found_without_regard_to_case_and_without_wildcards(store: &dyn Store) {
    for (id, text) in [
        ("1", Some("L'ÉCOLE est finie")),
        ("2", Some("100% sure_thing\\")),
        ("3", Some("100 percent")),
        ("4", Some("")),
        ("5", None),
        ("6", Some("a\u{0}Hidden")),
    ] {
        append(store, &[Sample::id(id).text(text)]).await;
    }
    for (query, want) in [
        ("école", &["1"][..]),
        ("%", &["2"]),
        ("E_T", &["2"]),
        ("\\", &["2"]),
        ("*", &[]),
        ("\"", &[]),
        ("'", &["1"]),
        ("hidden", &["6"]),
        ("\u{0}", &["6"]),
        ("1", &["2", "3"]),
        ("", &["1", "2", "3", "4", "6"]),
    ] {
        assert_eq!(ids(store, &text_filter(query)).await, want, "{query:?}");
    }
}

async fn a_page_is_a_stretch_of_the_order_and_total_is_of_all(store: &dyn Store) {
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
async fn a_deep_page_since_the_middle_of_a_second_begins_where_it_should(store: &dyn Store) {
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
async fn pages_after_a_place_are_the_listing_whatever_comes_in_between(store: &dyn Store) {
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

async fn stats_count_all_and_rank_the_senders(store: &dyn Store) {
    let mut n = 0;
    // The busiest come last, and the last three are one too many: by count, then by sender.
    let counts =
        [("+9", 1), ("+8", 1), ("+10", 2), ("+11", 2), ("+30", 2), ("+12", 2), ("+13", 2), ("+14", 2)];
    for (sender, count) in counts.into_iter().chain([("+15", 2), ("+2", 2), ("+20", 3), ("+1", 3), ("+7", 5)])
    {
        for _ in 0..count {
            n += 1;
            append(store, &[Sample::id(&format!("m{n}")).from(sender)]).await;
        }
    }
    let stats = store.stats().await.expect("stats");
    assert_eq!((stats.total_messages, stats.senders_count), (n, 13));
    let top: Vec<(&str, u64)> = stats.top_senders.iter().map(|(s, n)| (s.as_str(), *n)).collect();
    let rest = ["+10", "+11", "+12", "+13", "+14", "+15", "+2"].map(|sender| (sender, 2));
    assert_eq!(top, [&[("+7", 5), ("+1", 3), ("+20", 3)], &rest[..]].concat());
}

async fn a_store_that_works_is_ready(store: &dyn Store) {
    store.ready().await.expect("ready");
}
