//! The contract on SQLite, and faults that only SQLite can have: files, versions, crashes, a locked or damaged database.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use adapters::sqlite::{
    BATCH_MESSAGES_MAX, OpenError, QUEUE_BYTES_MAX, SqliteOptions, SqliteStore, newest_schema,
};
use domain::contract::{PROMISES, Sample, Store, Stores};
use domain::message::{PhoneNumber, SentAt};
use domain::query::{Filter, MessageQuery, Page};
use domain::store::{Appended, MessageStore, StoreErrorKind};
use domain::usage::StoreUsage;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

pub(crate) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(options(path)).unwrap()
}

pub(crate) fn options(path: &Path) -> SqliteOptions {
    SqliteOptions {
        path: path.to_owned(),
        batch_messages_max: BATCH_MESSAGES_MAX,
        on_commit: Box::new(|_| {}),
        on_event: Arc::new(|_| {}),
    }
}

/// One database; each handle on it is a store of its own, as another process has it.
struct Database(PathBuf);

impl Stores for Database {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(open(&self.0))
    }
}

async fn total(store: &SqliteStore) -> u64 {
    store.list(&Filter::default(), &Page::at(1, 0)).await.unwrap().total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_every_promise_of_the_ports() {
    for (_, promise) in PROMISES {
        let folder = tempfile::tempdir().unwrap();
        promise(&Database(folder.path().join("app.db"))).await;
    }
}

#[tokio::test]
async fn the_file_its_folder_and_its_schema_are_made_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b c/app.db");
    let store = open(&path);
    store.append(vec![Sample::id("m1").message()]).await.unwrap();
    store.close().await;
    assert_eq!(store.usage().wal_bytes, 0, "closing moves the log into the database");

    let store = open(&path);
    assert_eq!(total(&store).await, 1);
    let again = store.append(vec![Sample::id("m1").message()]).await.unwrap();
    assert!(matches!(again[..], [Appended::Existing { .. }]));
    store.close().await;
}

#[tokio::test]
async fn body_digest_arrival_and_source_are_kept_for_replay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    let message = Sample::id("m1").message();
    store.append(vec![message.clone()]).await.unwrap();
    store.close().await;
    let db = Connection::open(&path).unwrap();
    let (body, digest, received_at_us, source): (Vec<u8>, [u8; 32], i64, String) = db
        .query_row(
            "SELECT body, body_sha256, received_at_us, name FROM messages JOIN sources USING (source_id)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    assert_eq!(body, message.body);
    assert_eq!(digest, message.verified.body_digest.0);
    assert_eq!(received_at_us, message.received_at.as_micros());
    assert_eq!(source, "default");
}

/// An older version took numbers and fractions of any length. Only a payload is held to the bounds, not a row.
#[tokio::test]
async fn what_an_older_version_stored_beyond_the_bounds_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("app.db"));
    let mut message = Sample::id("m1").message();
    message.content.sender = PhoneNumber::stored(format!("+{}", "9".repeat(1_000))).unwrap();
    message.content.sent_at = SentAt::stored(format!("2025-01-15T10:00:00.{}Z", "1".repeat(1_000))).unwrap();
    store.append(vec![message.clone(), Sample::id("m2").ts("2025-01-16T10:00:00Z").message()]).await.unwrap();
    let listing = store.list(&Filter::default(), &Page::at(1, 0)).await.unwrap();
    assert_eq!(listing.messages[0].sender, message.content.sender);
    assert_eq!(listing.messages[0].sent_at, message.content.sent_at);
    let after = Page::after(1, listing.next.unwrap());
    assert_eq!(
        store.list(&Filter::default(), &after).await.unwrap().messages[0].key.message_id.as_str(),
        "m2"
    );
    let sender = Some(message.content.sender.as_str().to_owned());
    assert_eq!(store.list(&Filter { sender, ..Filter::default() }, &Page::at(1, 0)).await.unwrap().total, 1);
    assert_eq!(store.stats().await.unwrap().first_message_ts, Some(message.content.sent_at));
    store.close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    open(&path).close().await;
    let db = Connection::open(&path).unwrap();
    let newer = newest_schema() + 1;
    db.execute(
        "INSERT INTO refinery_schema_history SELECT ?1, 'from_the_future', applied_on, checksum FROM refinery_schema_history LIMIT 1",
        [newer],
    )
    .unwrap();
    // As a crash leaves it: what is newer is in the write-ahead log still.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(db);
    let files = || [path.clone(), folder.path().join("app.db-wal")].map(|file| std::fs::read(file).unwrap());
    let before = files();
    assert!(!before[1].is_empty());

    let error = SqliteStore::open(options(&path)).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found, .. } if found == newer), "{error}");
    assert!(files() == before, "it was touched");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let letter = "Dear diary, this is not a database. ".repeat(100);
    std::fs::write(&path, &letter).unwrap();
    let error = SqliteStore::open(options(&path)).err().unwrap();
    assert!(error.to_string().contains("app.db"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), letter);
}

/// Goal: waiting appends are committed together. Method: hold the database's lock while they queue,
/// so that the first takes it alone and all others wait for it.
#[tokio::test]
async fn appends_that_wait_are_committed_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let commits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&commits);
    let on_commit = Box::new(move |report: domain::event::CommitReport| {
        assert!(report.ok);
        seen.lock().unwrap().push(report.messages);
    });
    let store = SqliteStore::open(SqliteOptions { on_commit, ..options(&path) }).unwrap();

    let lock = Connection::open(&path).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let appends = (0..2000).map(|n| store.append(vec![Sample::id(&format!("m{n}")).message()]));
    let all = futures_util::future::join_all(appends);
    let unlock = async { lock.execute_batch("ROLLBACK").unwrap() };
    let (appended, ()) = futures_util::future::join(all, unlock).await;
    assert!(appended.iter().all(|a| matches!(a.as_deref(), Ok([Appended::Stored(_)]))));

    let commits = commits.lock().unwrap();
    assert_eq!(commits.iter().sum::<usize>(), 2000);
    assert!(commits.len() <= 6, "{commits:?}");
    assert!(commits.iter().all(|n| *n <= BATCH_MESSAGES_MAX), "{commits:?}");
}

/// Goal: overload is `Busy`, at once, and what was accepted before is stored. Method: as above, with
/// more bytes than the queue takes.
#[tokio::test]
async fn a_full_queue_is_busy_and_loses_nothing_it_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    let lock = Connection::open(&path).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();

    let mebibyte = 1 << 20;
    let appends = (0..80).map(|n| {
        let mut message = Sample::id(&format!("m{n}")).message();
        message.body = vec![b'x'; mebibyte].into();
        store.append(vec![message])
    });
    let all = futures_util::future::join_all(appends);
    let unlock = async { lock.execute_batch("ROLLBACK").unwrap() };
    let (appended, ()) = futures_util::future::join(all, unlock).await;

    let stored = appended.iter().filter(|a| a.is_ok()).count();
    let busy =
        appended.iter().filter_map(|a| a.as_ref().err()).filter(|e| e.kind == StoreErrorKind::Busy).count();
    assert_eq!(stored, QUEUE_BYTES_MAX / (mebibyte + 512));
    assert_eq!(stored + busy, 80);
    assert_eq!(total(&store).await, stored as u64);
}

/// Goal: a delivery that the database refuses does not fail those that share its batch.
/// Method: a trigger of another hand refuses one id.
#[tokio::test]
async fn a_delivery_that_fails_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    let lock = Connection::open(&path).unwrap();
    lock.execute_batch(
        "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN new.message_id = 'bad' \
         BEGIN SELECT raise(ABORT, 'refused'); END; BEGIN IMMEDIATE",
    )
    .unwrap();
    let deliveries = [vec!["m1"], vec!["m2", "bad", "m3"], vec!["m4"]];
    let appends =
        deliveries.map(|ids| store.append(ids.into_iter().map(|id| Sample::id(id).message()).collect()));
    let all = futures_util::future::join_all(appends);
    let unlock = async { lock.execute_batch("ROLLBACK").unwrap() };
    let (appended, ()) = futures_util::future::join(all, unlock).await;
    assert!(appended[0].is_ok() && appended[2].is_ok());
    assert_eq!(appended[1].as_ref().unwrap_err().kind, StoreErrorKind::Fault);
    let listing = store.list(&Filter::default(), &Page::at(10, 0)).await.unwrap();
    let ids: Vec<&str> = listing.messages.iter().map(|m| m.key.message_id.as_str()).collect();
    assert_eq!(ids, ["m1", "m4"], "nothing of the failed delivery");
    assert_eq!(store.stats().await.unwrap().total_messages, 2);
}

/// Goal: after a failure readiness is red, and turns green by itself when the store can write again.
#[tokio::test]
async fn readiness_follows_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE UPDATE ON totals BEGIN SELECT raise(ABORT, 'refused'); END",
        )
        .unwrap();
    assert!(store.ready().await.is_ok(), "nothing has failed yet");
    assert!(store.append(vec![Sample::id("m1").message()]).await.is_err());
    assert!(store.ready().await.is_err());
    other.execute_batch("DROP TRIGGER refuse").unwrap();
    assert!(store.ready().await.is_ok());
    assert!(matches!(
        store.append(vec![Sample::id("m1").message()]).await.as_deref(),
        Ok([Appended::Stored(_)])
    ));
}

/// Readiness rests on it. It only changed a row into what the row was, of which SQLite writes nothing, and so was
/// well on a disk that could not be written to.
#[tokio::test]
async fn appending_nothing_is_a_write_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("app.db"));
    let wal_bytes = store.usage().wal_bytes;
    assert_eq!(store.append(vec![]).await.unwrap(), []);
    assert!(store.usage().wal_bytes > wal_bytes);
}

#[tokio::test]
async fn a_closed_store_takes_nothing_more_and_has_kept_what_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    let appends = (0..500).map(|n| store.append(vec![Sample::id(&format!("m{n}")).message()]));
    let (appended, ()) =
        futures_util::future::join(futures_util::future::join_all(appends), store.close()).await;
    assert!(appended.iter().all(Result::is_ok), "they were queued before the close");
    let late = store.append(vec![Sample::id("late").message()]).await;
    assert_eq!(late.unwrap_err().kind, StoreErrorKind::Unavailable);
    assert!(store.ready().await.is_err());
    assert_eq!(total(&open(&path)).await, 500);
}

/// The checkpoint at the end was refused for how it was worded, and nobody looked. Without a query
/// SQLite did it itself, as it does when the last connection that has read closes.
#[tokio::test]
async fn closing_moves_the_log_into_the_database_after_a_query_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    store.append(vec![Sample::id("m1").message()]).await.unwrap();
    assert_eq!(total(&store).await, 1);
    store.close().await;
    assert_eq!(store.usage().wal_bytes, 0);
}

/// The same, for the checkpoints in between: the log grew until the disk was full.
#[tokio::test]
async fn the_log_is_moved_into_the_database_while_messages_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("app.db"));
    for n in 0..64 {
        let mut message = Sample::id(&format!("m{n}")).message();
        message.body = vec![b'x'; 1 << 20].into();
        store.append(vec![message]).await.unwrap();
    }
    // 4,096 pages of 4 KiB, and the commit that went past them.
    let wal_bytes = store.usage().wal_bytes;
    assert!(wal_bytes < 18 << 20, "{wal_bytes}");
    store.close().await;
}
