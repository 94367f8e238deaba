//! Expiry on the layout: what has expired is gone from every part of the store, and its key is not.

use std::path::Path;

use adapters::digest::sha256;
use adapters::sqlite::{Expiry, SqliteStore};
use domain::memory::MemoryStore;
use domain::query::MessageQuery;
use domain::store::{Appended, MessageStore, Seq};
use domain::time::Timestamp;
use rusqlite::Connection;

use crate::numbered::{
    append, assert_sound, index_all, message, questions, sample, wait_until, wait_until_searched,
};
use crate::sqlite::open;

/// Goal: what has expired is gone from every answer, and its key is not: a late repeat is a duplicate. Method: the
/// model has only what is kept.
#[tokio::test]
async fn what_has_expired_is_gone_but_stays_a_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    append(&[&store], 1..9_001).await;
    append(&[&model], 7_001..9_001).await;
    index_all(&store, &path).await;
    append(&[&store, &model], 9_001..9_101).await;
    wait_until_searched(&path, 9_100);
    store.expire_to(Expiry { messages_to: Seq(7_000), keys_to: None }).await.unwrap();
    wait_until("all that expired is removed", || has_expired(&path, 7_000));
    for n in [1, 4_096, 4_097, 7_000] {
        let answer = store.append(vec![message(n)]).await.unwrap();
        assert!(matches!(answer[..], [Appended::Existing { digest: None, .. }]), "{answer:?}");
    }
    let answer = store.append(vec![message(7_001)]).await.unwrap();
    assert!(matches!(answer[..], [Appended::Existing { digest: Some(_), .. }]), "{answer:?}");
    compare_but_for_seq(&store, &model).await;
    store.close().await;
    assert_sound(&path, 2_100);

    let store = open(&path);
    assert!(matches!(store.append(vec![message(1)]).await.unwrap()[..], [Appended::Existing { .. }]));
    assert!(matches!(store.append(vec![message(9_101)]).await.unwrap()[..], [Appended::Stored(_)]));
    store.close().await;
}

/// The few messages of a quiet inbox are in no index, and expire all the same.
#[tokio::test]
async fn a_handful_of_messages_expires_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    append(&[&store], 1..21).await;
    append(&[&model], 11..21).await;
    store.expire_to(Expiry { messages_to: Seq(10), keys_to: None }).await.unwrap();
    wait_until("all that expired is removed", || has_expired(&path, 10));
    compare_but_for_seq(&store, &model).await;
    store.close().await;
    assert_sound(&path, 10);
}

/// Returns true if all messages up to this place have expired, and the senders are ranked again.
pub(crate) fn has_expired(path: &Path, seq: i64) -> bool {
    let db = Connection::open(path).unwrap();
    let row = db.query_row("SELECT purged_seq, is_ranked FROM totals", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
    });
    row.unwrap() == (seq, true)
}

/// The model counts places from its own first message.
async fn compare_but_for_seq(store: &SqliteStore, model: &MemoryStore) {
    for (filter, page) in questions() {
        let (got, want) =
            (store.list(&filter, &page).await.unwrap(), model.list(&filter, &page).await.unwrap());
        assert_eq!(got.total, want.total, "{filter:?} {page:?}");
        let ids = |listing: &domain::query::Listing| -> Vec<String> {
            listing.messages.iter().map(|m| m.key.message_id.as_str().to_owned()).collect()
        };
        assert_eq!(ids(&got), ids(&want), "{filter:?} {page:?}");
    }
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
}

/// Goal: keys are kept no shorter than asked for, and then they are gone: their memory and disk are bounded.
#[tokio::test]
async fn a_key_expires_with_the_last_of_its_segment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    append(&[&store], 1..70_001).await;
    let n_keys = || {
        let db = Connection::open(&path).unwrap();
        let row = db.query_row("SELECT count(*), min(seq) FROM message_keys", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        row.unwrap()
    };
    index_all(&store, &path).await;
    // The last of the first segment is kept.
    store.expire_to(Expiry { messages_to: Seq(67_999), keys_to: Some(Seq(65_534)) }).await.unwrap();
    wait_until("messages are removed", || has_expired(&path, 67_999));
    assert_eq!(n_keys().1, 1, "no key has expired");
    store.expire_to(Expiry { messages_to: Seq(68_999), keys_to: Some(Seq(70_000)) }).await.unwrap();
    wait_until("messages are removed", || has_expired(&path, 68_999));
    wait_until("the first segment's keys are removed", || n_keys().1 == 65_536);
    // As far as the store can tell, it is new.
    assert!(matches!(store.append(vec![message(1)]).await.unwrap()[..], [Appended::Stored(_)]));
    assert!(matches!(store.append(vec![message(65_536)]).await.unwrap()[..], [Appended::Existing { .. }]));
    store.close().await;
    assert_sound(&path, 1_002);
}

/// Goal: while keys expire alone, because they are kept for less long than was asked before, the ranking is kept up.
/// Method: a new busiest sender comes in meanwhile. It was left out until the end, and then the one before stayed
/// beside it.
#[tokio::test]
async fn a_new_busiest_sender_is_seen_while_keys_expire_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    append(&[&store], 1..70_001).await;
    append(&[&model], 68_000..70_001).await;
    store.expire_to(Expiry { messages_to: Seq(67_999), keys_to: None }).await.unwrap();
    wait_until("messages are removed", || has_expired(&path, 67_999));
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());

    store.expire_to(Expiry { messages_to: Seq(67_999), keys_to: Some(Seq(67_999)) }).await.unwrap();
    let of_one = |n: u64| {
        let mut message = sample(n).from("+4711").message();
        message.received_at = Timestamp::from_micros(i64::try_from(n).unwrap());
        message.verified.body_digest = sha256(&message.body);
        message
    };
    for ns in [70_001..70_301, 70_301..71_001] {
        for store in [&store as &dyn MessageStore, &model] {
            store.append(ns.clone().map(of_one).collect()).await.unwrap();
        }
        assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
    }
    wait_until("the first segment's keys are removed", || {
        let db = Connection::open(&path).unwrap();
        db.query_row("SELECT count(*) FROM message_keys WHERE segment = 0", [], |row| row.get::<_, i64>(0))
            .unwrap()
            == 0
    });
    store.append(vec![of_one(71_001)]).await.unwrap();
    model.append(vec![of_one(71_001)]).await.unwrap();
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
    store.close().await;
    assert_sound(&path, 3_002);
}
