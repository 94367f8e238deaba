//! Retention by a clock: wrong stamps, clocks that jump, and the messages of an older version.

use std::sync::Arc;
use std::time::Duration;

use adapters::sqlite::{Expiry, SqliteOptions, SqliteStore};
use domain::event::StoreEvent;
use domain::query::MessageQuery;
use domain::retention::{MessageExpiry, Retention};
use domain::store::{MessageStore, Seq};
use domain::time::Timestamp;
use rusqlite::Connection;

use crate::expiry::has_expired;
use crate::numbered::{append, assert_sound, index_all, message, wait_until};
use crate::sqlite::{open, options};

const HOUR: Duration = Duration::from_secs(3600);

fn at_hour(hour: u32) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + i64::try_from((HOUR * hour).as_micros()).unwrap())
}

/// Reads the clock every hour, with messages kept for ten days.
async fn keep(store: &SqliteStore, hours: std::ops::Range<u32>) {
    for hour in hours {
        store.expire(Retention { messages: Some(240 * HOUR), keys: None }, at_hour(hour)).await.unwrap();
    }
}

/// Goal: what expires goes by when the server saw that it was there, whatever a wrong clock stamped it with. Method: one
/// message of 2038, whose stamp kept all later ones from going; some of 1970, which went at once.
#[tokio::test]
async fn a_wrong_stamp_neither_keeps_messages_nor_removes_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    keep(&store, 0..25).await;
    let mut of_2038 = message(1);
    of_2038.received_at = Timestamp::from_micros(2_145_916_800_000_000);
    store.append(vec![of_2038]).await.unwrap();
    append(&[&store], 2..11).await;
    keep(&store, 25..30).await;
    append(&[&store], 11..21).await;
    keep(&store, 30..265).await;
    assert_eq!(store.stats().await.unwrap().total_messages, 20, "ten days are not over");
    keep(&store, 265..266).await;
    wait_until("the first ten are removed", || has_expired(&path, 10));
    keep(&store, 266..270).await;
    assert_eq!(store.stats().await.unwrap().total_messages, 10);
    keep(&store, 270..271).await;
    wait_until("the others are removed", || has_expired(&path, 20));
    store.close().await;
    assert_sound(&path, 0);
}

/// Goal: a start with a clock that is years ahead, or one that was years behind until then, removes nothing: what it
/// jumped over is not counted. Removing goes on when the clock is set right, or has gone on for a day.
#[tokio::test]
async fn what_a_clock_jumped_over_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (tell, told) = std::sync::mpsc::channel();
    let on_event = Arc::new(move |event| tell.send(event).unwrap());
    let store = SqliteStore::open(SqliteOptions { on_event, ..options(&path) }).unwrap();
    assert!(matches!(told.recv().unwrap(), StoreEvent::StartGoesOn));
    append(&[&store], 1..11).await;
    keep(&store, 0..30).await;
    assert!(matches!(told.recv().unwrap(), StoreEvent::ClockSettled));
    let year = 365 * 24;
    keep(&store, year..year + 20).await;
    let event = told.recv().unwrap();
    let is_jump =
        matches!(event, StoreEvent::ClockJumped { from, to } if from == at_hour(29) && to == at_hour(year));
    assert!(is_jump, "{event:?}");
    keep(&store, 31..33).await;
    keep(&store, year..year + 23).await;
    let event = told.recv().unwrap();
    assert!(matches!(event, StoreEvent::ClockJumped { .. }), "{event:?}");
    assert_eq!(store.stats().await.unwrap().total_messages, 10);
    append(&[&store], 11..21).await;
    keep(&store, year + 23..year + 25).await;
    assert!(matches!(told.recv().unwrap(), StoreEvent::ClockSettled));
    // The first ten were noted in hour 24, which is eight hours before the jump.
    keep(&store, year + 25..year + 232).await;
    assert_eq!(store.stats().await.unwrap().total_messages, 20, "ten days are not over");
    keep(&store, year + 232..year + 233).await;
    wait_until("those from before the jump are removed", || has_expired(&path, 10));
    assert_eq!(store.stats().await.unwrap().total_messages, 10, "the others came in later");
    store.close().await;
    let events: Vec<StoreEvent> = told.try_iter().collect();
    assert!(
        matches!(
            events[..],
            [StoreEvent::Expired { messages: 10, keys: 0 }, StoreEvent::Purged { messages: 10, .. }]
        ),
        "{events:?}"
    );
    assert_sound(&path, 10);
}

/// Messages of an older version have no notes: their stamps count, but for those from the future.
#[tokio::test]
async fn messages_of_an_older_version_expire_by_their_stamps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    for n in 1..31_u32 {
        let mut message = message(u64::from(n));
        message.received_at = if n == 5 { at_hour(999_999) } else { at_hour(n) };
        store.append(vec![message]).await.unwrap();
    }
    Connection::open(&path).unwrap().execute("UPDATE clock SET stamped_seq = 30", []).unwrap();
    keep(&store, 230..255).await;
    wait_until("those that came ten days before are removed", || has_expired(&path, 14));
    store.close().await;
    assert_sound(&path, 16);
}

/// Goal: however fast messages come in, what has expired goes faster: a load that goes on for ever fills no disk.
/// Method: what one commit of 500 messages removes. It was 16.
#[tokio::test]
async fn a_commit_removes_more_than_it_stores() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (tell, told) = std::sync::mpsc::channel();
    let on_event = Arc::new(move |event| {
        if let StoreEvent::Expired { messages, .. } = event {
            tell.send(messages).unwrap();
        }
    });
    let store = SqliteStore::open(SqliteOptions { on_event, ..options(&path) }).unwrap();
    append(&[&store], 1..5_001).await;
    index_all(&store, &path).await;
    store.expire_to(Expiry { messages_to: Seq(5_000), keys_to: None }).await.unwrap();
    // What is waiting already is taken before there is time for chores.
    for n in 0..6 {
        store.append((5_001 + n * 500..5_501 + n * 500).map(message).collect()).await.unwrap();
    }
    wait_until("all are removed", || has_expired(&path, 5_000));
    assert_eq!(told.try_iter().max(), Some(625));
    store.close().await;
    assert_sound(&path, 3_000);
}
