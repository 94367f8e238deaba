//! A damaged text index: found, made anew, and never a reason for a missed message.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adapters::digest::sha256;
use adapters::sqlite::{SqliteOptions, SqliteStore, check};
use domain::contract::Sample;
use domain::event::StoreEvent;
use domain::message::NewMessage;
use domain::query::{Filter, MessageQuery, Page};
use domain::store::MessageStore;
use domain::text_query::TextQuery;
use domain::usage::StoreUsage;
use rusqlite::Connection;

use crate::sqlite::{open, options};

const MESSAGES: u64 = 4_000;

/// So many texts of random words that their index has many pages.
fn message(n: u64) -> NewMessage {
    let word = |k: u64| format!("{:x}", n.wrapping_mul(k).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let text = format!("needle {} {} {n}", word(3), word(7));
    let mut message = Sample::id(&format!("m{n}")).text(Some(&text)).message();
    message.verified.body_digest = sha256(&message.body);
    message
}

async fn found(store: &SqliteStore, text: &str) -> Option<u64> {
    let filter = Filter { text: Some(TextQuery::new(text)), ..Filter::default() };
    store.list(&filter, &Page::at(1, 0)).await.ok().map(|listing| listing.total)
}

/// Until it holds, for a minute at most.
async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited for: {what}");
        tokio::task::yield_now().await;
    }
}

async fn wait_until_indexed(store: &SqliteStore) {
    wait_until("all texts are indexed", async || store.unindexed_texts().await.is_ok_and(|n| n == 0)).await;
}

/// A database with texts that are all indexed.
async fn fill(store: &SqliteStore) {
    for n in 0..MESSAGES / 500 {
        store.append((0..500).map(|m| message(n * 500 + m)).collect()).await.unwrap();
    }
    wait_until_indexed(store).await;
}

fn index_of(path: &Path) -> PathBuf {
    path.with_extension("db-search")
}

/// Writes over all of a file from here on.
fn overwrite(path: &Path, from: u64) {
    let file = File::options().write(true).open(path).unwrap();
    let bytes = file.metadata().unwrap().len();
    if bytes > from {
        let junk = vec![0x5a; usize::try_from(bytes - from).unwrap()];
        file.write_all_at(&junk, from).unwrap();
    }
}

/// Leaves all of the index in its file, and nothing of it in a log or in a cache.
async fn close(store: SqliteStore, path: &Path) {
    store.close().await;
    drop(store);
    let index = Connection::open(index_of(path)).unwrap();
    index.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
}

type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 5] = [
    ("all pages but the first", |index| overwrite(index, 4096)),
    ("the header, too", |index| overwrite(index, 0)),
    ("half of the file", |index| {
        let file = File::options().write(true).open(index).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }),
    ("no database", |index| File::create(index).unwrap().write_all(b"Dear diary, ").unwrap()),
    ("some texts", |index| {
        Connection::open(index)
            .unwrap()
            .execute("DELETE FROM texts WHERE rowid BETWEEN 1000 AND 1100", [])
            .unwrap();
    }),
];

/// Goal: whatever a start finds, all messages are found. A check found nothing, and what was damaged stayed so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_index_is_told_by_a_check_and_made_anew_by_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("app.db");
    let store = open(&sound);
    fill(&store).await;
    close(store, &sound).await;
    assert!(check(&sound).unwrap().is_ok());
    for (what, damage) in DAMAGES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        fs::copy(&sound, &path).unwrap();
        fs::copy(index_of(&sound), index_of(&path)).unwrap();
        damage(&index_of(&path));
        let report = check(&path).unwrap();
        assert!(report.to_string().contains("text index"), "{what}: {report}");

        let why = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&why);
        let on_event = Arc::new(move |event| {
            if let StoreEvent::SearchIndexRebuilt { why } = event {
                noted.lock().unwrap().push(why);
            }
        });
        let store = SqliteStore::open(SqliteOptions { on_event, ..options(&path) }).unwrap();
        wait_until(what, async || !why.lock().unwrap().is_empty()).await;
        assert_eq!(found(&store, "needle").await, Some(MESSAGES), "{what}");
        wait_until_indexed(&store).await;
        assert_eq!(found(&store, "needle").await, Some(MESSAGES), "{what}");
        store.close().await;
        let report = check(&path).unwrap();
        assert!(report.is_ok(), "{what}: {report}");
    }
}

/// Goal: what a question finds damaged is made anew beside it, without a restart. It was 503 for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_damaged_while_it_is_used_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    fill(&store).await;
    close(store, &path).await;
    let store = open(&path);
    overwrite(&index_of(&path), 4096);
    wait_until("all are found", async || found(&store, "needle").await == Some(MESSAGES)).await;
    wait_until_indexed(&store).await;
    for n in [0, MESSAGES / 2, MESSAGES - 1] {
        let text = format!("needle {:x}", n.wrapping_mul(3).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert_eq!(found(&store, &text).await, Some(1), "{text}");
    }
    store.append(vec![message(MESSAGES)]).await.unwrap();
    assert_eq!(found(&store, "needle").await, Some(MESSAGES + 1));
    store.close().await;
    let report = check(&path).unwrap();
    assert!(report.is_ok(), "{report}");
}
