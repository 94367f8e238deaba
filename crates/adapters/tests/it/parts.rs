//! Every part of the store: deletion from each of them, a text index of another database, a database of an older version.

use std::collections::BTreeSet;
use std::path::Path;

use adapters::sqlite::{self, Doomed, Expiry, SqliteStore};
use domain::memory::MemoryStore;
use domain::message::MessageId;
use domain::query::{Filter, MessageQuery, Page};
use domain::store::{Appended, MessageStore, Seq};
use domain::text_query::TextQuery;
use rusqlite::Connection;

use crate::numbered::{
    append, assert_sound, compare, indexed_seq, message, sample, wait_until, wait_until_searched,
};
use crate::sqlite::open;

/// Goal: deleted messages are gone wherever they were, in the tail, in a run under way or in the indexes, while the
/// store is open; their keys are not. A deletion that was cut off is finished by the next one. Method: of all
/// messages, those of one sender go, in several transactions; the model never had them.
#[tokio::test]
async fn what_is_deleted_is_gone_from_every_part_of_the_store_and_stays_a_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (store, model) = (open(&path), MemoryStore::default());
    let is_kept = |n: u64| sample(n).from != "+3";
    let append_kept = async |ns: std::ops::Range<u64>| {
        model.append(ns.filter(|n| is_kept(*n)).map(message).collect()).await.unwrap();
    };
    append(&[&store], 1..40_001).await;
    append_kept(1..40_001).await;
    assert_eq!(indexed_seq(&path), 16_383, "some are indexed, and a run is under way");
    let doomed = Doomed::Sender("+3".to_owned());
    let cut_off = std::panic::catch_unwind(|| {
        sqlite::delete(&path, &doomed, &mut |_| panic!("the process is killed after the first transaction"))
    });
    assert!(cut_off.is_err());
    let n_left = store.stats().await.unwrap().total_messages;
    let deleted = sqlite::delete(&path, &doomed, &mut |_| ()).unwrap();
    assert_eq!(
        (deleted.left_before, deleted.messages),
        (40_000 - n_left, n_left - model.stats().await.unwrap().total_messages)
    );
    assert!(deleted.left_before > 0 && deleted.messages > 1_000, "{deleted:?}");
    assert_eq!(store.stats().await.unwrap(), model.stats().await.unwrap());
    for (sender, text) in [(Some("+3"), None), (Some("+4"), None), (None, Some("order 77")), (None, None)] {
        let text = text.map(TextQuery::new);
        let filter = Filter { sender: sender.map(str::to_owned), text, ..Filter::default() };
        let (got, want) = (
            store.list(&filter, &Page::at(100, 900)).await.unwrap(),
            model.list(&filter, &Page::at(100, 900)).await.unwrap(),
        );
        assert_eq!((got.total, got.messages.len()), (want.total, want.messages.len()), "{filter:?}");
        let pairs = got.messages.iter().zip(&want.messages);
        assert!(pairs.clone().all(|(got, want)| got.key == want.key), "{filter:?}");
    }

    append(&[&store], 40_001..41_001).await;
    append_kept(40_001..41_001).await;
    let one = Doomed::Message(MessageId::parse(sample(40_500).id).unwrap());
    assert!(is_kept(40_500));
    assert_eq!(sqlite::delete(&path, &one, &mut |_| ()).unwrap().messages, 1);
    assert_eq!(
        sqlite::delete(&path, &one, &mut |_| ()).unwrap().messages,
        0,
        "a second time there is nothing"
    );
    let doomed_ns: Vec<u64> = (1..40_001).filter(|n| !is_kept(*n)).step_by(97).chain([40_500]).collect();
    let are_duplicates = async |store: &SqliteStore| {
        for n in &doomed_ns {
            let answer = store.append(vec![message(*n)]).await.unwrap();
            assert!(matches!(answer[..], [Appended::Existing { digest: None, .. }]), "{n}: {answer:?}");
        }
    };
    are_duplicates(&store).await;
    index_all_but_deleted(&store, &path).await;
    are_duplicates(&store).await;
    store.close().await;
    let n_messages = model.stats().await.unwrap().total_messages
        + (40_001..41_001).filter(|n| !is_kept(*n)).count() as u64
        - 1;
    assert_sound(&path, n_messages);

    let store = open(&path);
    are_duplicates(&store).await;
    assert_eq!(store.stats().await.unwrap().total_messages, n_messages);
    store.close().await;
}

async fn index_all_but_deleted(store: &SqliteStore, path: &Path) {
    store.expire_to(Expiry { messages_to: Seq(0), keys_to: None }).await.unwrap();
    wait_until("all messages are indexed", || indexed_seq(path) == 41_000);
}

/// Goal: a text index that is not of this database is not believed. Method: it is put beside another one.
#[tokio::test]
async fn an_index_of_texts_of_another_database_is_made_anew() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, other) = (folder.path().join("app.db"), other.path().join("app.db"));
    for (path, ns) in [(&path, 1..2_001), (&other, 3_001..6_001)] {
        let store = open(path);
        append(&[&store], ns.clone()).await;
        wait_until_searched(path, i64::try_from(ns.count()).unwrap());
        store.close().await;
    }
    let index = |path: &Path| path.with_extension("db-search");
    for damaged in [false, true] {
        for suffix in ["", "-wal", "-shm"] {
            let file = |path: &Path| format!("{}{suffix}", index(path).display());
            let _ = std::fs::remove_file(file(&path));
            let _ = std::fs::copy(file(&other), file(&path));
        }
        if damaged {
            std::fs::write(index(&path), "Dear diary. ".repeat(1000)).unwrap();
        }
        let store = open(&path);
        wait_until_searched(&path, 2_000);
        let filter = Filter { text: Some(TextQuery::new("order 1234 HAS")), ..Filter::default() };
        let found = store.list(&filter, &Page::at(10, 0)).await.unwrap();
        let ids: BTreeSet<&str> = found.messages.iter().map(|m| m.key.message_id.as_str()).collect();
        assert_eq!((found.total, ids), (1, BTreeSet::from([sample(1234).id.as_str()])));
        store.close().await;
    }
}

/// Goal: a database of an older version becomes one of this version with all that it held. Method: its schema, and what
/// this version had at the same point, in the older one's form.
#[tokio::test]
async fn a_database_of_an_older_version_is_brought_up_to_date() {
    const N_MESSAGES: u64 = 40_000;
    let folder = tempfile::tempdir().unwrap();
    let current = folder.path().join("current.db");
    let (store, model) = (open(&current), MemoryStore::default());
    append(&[&store, &model], 1..N_MESSAGES + 1).await;
    store.close().await;
    assert_eq!(indexed_seq(&current), 16_383, "some are indexed, and a run is under way");

    let of_version_1 = "
        INSERT INTO messages SELECT * FROM current.messages;
        INSERT INTO senders SELECT sender, count(*) FROM current.messages GROUP BY sender;
        INSERT INTO top_senders SELECT * FROM current.top_senders;
        UPDATE totals SET (message_count, sender_count) =
            (SELECT message_count, sender_count FROM current.totals);";
    let of_version_2 = "
        INSERT INTO message_keys SELECT * FROM current.message_keys;
        INSERT INTO messages_by_time SELECT * FROM current.messages_by_time;
        INSERT INTO messages_by_sender SELECT * FROM current.messages_by_sender;
        INSERT INTO time_counts SELECT * FROM current.time_counts;
        UPDATE totals SET (last_seq, indexed_seq) = (SELECT last_seq, indexed_seq FROM current.totals);";
    for version in [1, 2] {
        let path = folder.path().join(format!("version-{version}.db"));
        let db = Connection::open(&path).unwrap();
        db.execute_batch(include_str!("../../../../migrations/sqlite/V1__inbox.sql")).unwrap();
        if version == 2 {
            db.execute_batch(include_str!("../../../../migrations/sqlite/V2__sorted_runs.sql")).unwrap();
        }
        db.execute("ATTACH ?1 AS current", [current.to_str()]).unwrap();
        db.execute_batch(of_version_1).unwrap();
        if version == 2 {
            db.execute_batch(of_version_2).unwrap();
        }
        db.execute_batch(&format!(
            "CREATE TABLE refinery_schema_history AS \
             SELECT * FROM current.refinery_schema_history WHERE version <= {version}"
        ))
        .unwrap();
        drop(db);
        let report = sqlite::check(&path).unwrap();
        assert!(report.is_ok(), "it is sound as it is: {report}");

        let store = open(&path);
        compare(&store, &model).await;
        assert!(matches!(store.append(vec![message(1)]).await.unwrap()[..], [Appended::Existing { .. }]));
        store.close().await;
        assert_sound(&path, N_MESSAGES);
    }
}
