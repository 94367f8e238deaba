//! Promises of [`MessageExpiry`](crate::retention::MessageExpiry). Time is passed in, so that days take no time.

use std::time::Duration;

use super::ask::{append, ids, pause};
use super::{Sample, Store, Stores};
use crate::query::Filter;
use crate::retention::Retention;
use crate::store::Appended;
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);

/// Messages are kept for ten days, their keys for a hundred.
const RETENTION: Retention =
    Retention { messages: Some(HOUR.saturating_mul(240)), keys: Some(HOUR.saturating_mul(2400)) };

/// Commits that a store may need to remove a few messages.
const COMMITS_MAX: usize = 1_000;

fn at_hour(hour: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + hour * 3_600_000_000)
}

/// Reads the clock once an hour, as a server does.
async fn walk(store: &dyn Store, hours: std::ops::Range<i64>) {
    for hour in hours {
        store.expire(RETENTION, at_hour(hour)).await.expect("expire");
    }
}

/// Commits until so many messages are left.
async fn until_left(store: &dyn Store, want: &[&str]) {
    for _ in 0..COMMITS_MAX {
        append(store, &[]).await;
        if ids(store, &Filter::default()).await == want {
            return;
        }
        pause().await;
    }
    assert_eq!(ids(store, &Filter::default()).await, want);
}

pub(super) async fn an_expired_message_is_gone_and_its_key_is_not(stores: &dyn Stores) {
    let store = &*stores.open();
    // A day, so that the clock is trusted.
    walk(store, 0..26).await;
    append(store, &[Sample::id("old").from("+1")]).await;
    walk(store, 26..100).await;
    append(store, &[Sample::id("new").from("+2")]).await;
    walk(store, 100..260).await;
    assert_eq!(ids(store, &Filter::default()).await, ["new", "old"], "kept for ten days");
    walk(store, 260..300).await;
    until_left(store, &["new"]).await;
    let stats = store.stats().await.expect("stats");
    assert_eq!((stats.total_messages, stats.senders_count), (1, 1));
    assert_eq!(stats.top_senders.len(), 1);
    let repeated = append(store, &[Sample::id("old"), Sample::id("new")]).await;
    assert!(matches!(repeated[0], Appended::Existing { digest: None, .. }), "{repeated:?}");
    assert!(matches!(repeated[1], Appended::Existing { digest: Some(_), .. }), "{repeated:?}");
    assert_eq!(ids(store, &Filter::default()).await, ["new"]);
}

/// Goal: a clock that is wrong for a while removes nothing. Method: it jumps years ahead, and is set right.
pub(super) async fn a_clock_that_jumps_removes_nothing(stores: &dyn Stores) {
    let store = &*stores.open();
    walk(store, 0..26).await;
    append(store, &[Sample::id("m1")]).await;
    walk(store, 26..30).await;
    for wrong in [90_000, 90_001, 90_002] {
        store.expire(RETENTION, at_hour(wrong)).await.expect("expire");
        append(store, &[]).await;
    }
    walk(store, 30..100).await;
    for _ in 0..10 {
        append(store, &[]).await;
        pause().await;
    }
    assert_eq!(ids(store, &Filter::default()).await, ["m1"]);
}

pub(super) async fn without_retention_nothing_expires(stores: &dyn Stores) {
    let store = &*stores.open();
    append(store, &[Sample::id("m1")]).await;
    for day in 0..400 {
        store.expire(Retention::default(), at_hour(day * 23)).await.expect("expire");
    }
    append(store, &[]).await;
    assert_eq!(ids(store, &Filter::default()).await, ["m1"]);
}
