//! Messages made from their numbers, stores of them, and comparisons of these with the model.

use std::path::Path;
use std::time::{Duration, Instant};

use adapters::digest::sha256;
use adapters::sqlite::{self, Expiry, SqliteStore};
use domain::contract::Sample;
use domain::memory::MemoryStore;
use domain::message::NewMessage;
use domain::query::{Filter, MessageQuery, Page};
use domain::store::{MessageStore, Seq};
use domain::text_query::TextQuery;
use domain::time::{ExactTime, Timestamp};
use rusqlite::Connection;

/// Of the n-th message: ids at random, times in order but for some, few senders, texts with the number in it.
pub(crate) fn sample(n: u64) -> Sample {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let at = if n % 50 == 7 { mixed % 86_400 } else { n / 10 % 86_400 };
    let ts = format!("2025-01-{:02}T{:02}:{:02}:{:02}Z", 1 + n / 50_000, at / 3600, at / 60 % 60, at % 60);
    Sample::id(&format!("{mixed:x}"))
        .from(&format!("+{}", mixed % 13))
        .ts(&ts)
        .text((!n.is_multiple_of(3)).then(|| format!("Order {n} has ARRIVED")).as_deref())
}

pub(crate) fn message(n: u64) -> NewMessage {
    let mut message = sample(n).message();
    message.received_at = Timestamp::from_micros(i64::try_from(n).unwrap());
    message.verified.body_digest = sha256(&message.body);
    message
}

pub(crate) async fn append(stores: &[&dyn MessageStore], ns: std::ops::Range<u64>) {
    let ns: Vec<u64> = ns.collect();
    for ns in ns.chunks(500) {
        for store in stores {
            store.append(ns.iter().map(|n| message(*n)).collect()).await.unwrap();
        }
    }
}

/// Every filter there is, near and far.
pub(crate) fn questions() -> Vec<(Filter, Page)> {
    let sender = |s: &str| Some(s.to_owned());
    let since = |s: &str| Some(ExactTime::parse_utc(s).unwrap());
    let text = |s: &str| Some(TextQuery::new(s));
    let mut questions = Vec::new();
    for sender in [None, sender("+1"), sender("+99")] {
        for since in [None, since("2025-01-01T00:13:20.5Z")] {
            for text in [None, text("arrived"), text("order 77"), text("7")] {
                let filter = Filter { sender: sender.clone(), since: since.clone(), text };
                let offsets = if filter.text.is_none() { &[0, 4_321, 9_990, u64::MAX][..] } else { &[120] };
                questions.extend(offsets.iter().map(|offset| (filter.clone(), Page::at(30, *offset))));
            }
        }
    }
    questions
}

pub(crate) async fn compare(store: &SqliteStore, model: &MemoryStore) {
    for (filter, page) in questions() {
        let want = model.list(&filter, &page).await.unwrap();
        assert_eq!(store.list(&filter, &page).await.unwrap(), want, "{filter:?} {page:?}");
        if let Some(place) = want.next {
            let page = Page::after(7, place);
            let want = model.list(&filter, &page).await.unwrap();
            assert_eq!(store.list(&filter, &page).await.unwrap(), want, "{filter:?} {page:?}");
        }
    }
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
}

/// Asserts that a check finds no problem in the database, and this many messages.
pub(crate) fn assert_sound(path: &Path, n_messages: u64) {
    let report = sqlite::check(path).unwrap();
    assert!(report.is_ok() && report.messages == n_messages, "{report}");
}

pub(crate) fn indexed_seq(path: &Path) -> i64 {
    let db = Connection::open(path).unwrap();
    db.query_row("SELECT indexed_seq FROM totals", [], |row| row.get(0)).unwrap()
}

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Has the store index all that it has: what may expire is indexed first, and nothing is so old.
pub(crate) async fn index_all(store: &SqliteStore, path: &Path) {
    store.expire_to(Expiry { messages_to: Seq(0), keys_to: None }).await.unwrap();
    let last_seq = i64::try_from(store.stats().await.unwrap().total_messages).unwrap();
    wait_until("all messages are indexed", || indexed_seq(path) == last_seq);
}

pub(crate) fn wait_until_searched(path: &Path, last_seq: i64) {
    let index = Connection::open(path.with_extension("db-search")).unwrap();
    index.busy_timeout(Duration::from_secs(5)).unwrap();
    wait_until("all texts are indexed", || {
        let seq: i64 = index.query_row("SELECT searched_seq FROM progress", [], |row| row.get(0)).unwrap();
        seq == last_seq
    });
}
