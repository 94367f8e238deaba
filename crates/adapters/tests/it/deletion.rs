//! A deletion beside others: another deletion, whoever reads, and a server that stores.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use adapters::sqlite::{self, Deleted, Doomed, SqliteStore};
use domain::contract::Sample;
use domain::store::MessageStore;
use domain::usage::StoreUsage;
use rusqlite::Connection;

use crate::sqlite::open;

/// With one message of each of these senders, whose texts are indexed.
async fn open_with_messages_of(path: &Path, senders: &[&str]) -> SqliteStore {
    let store = open(path);
    for sender in senders {
        let sample = Sample::id(sender).from(sender).text(Some("zebrafinch"));
        store.append(vec![sample.message()]).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.unindexed_texts().await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "texts are not indexed");
        tokio::task::yield_now().await;
    }
    store
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

fn of(sender: &str) -> Doomed {
    Doomed::Sender(sender.to_owned())
}

fn delete(path: &Path, sender: &str) -> Deleted {
    sqlite::delete(path, &of(sender), &mut |_| ()).unwrap()
}

fn index_of(path: &Path) -> PathBuf {
    path.with_extension("db-search")
}

fn n_indexed(path: &Path) -> i64 {
    let count = "SELECT count(*) FROM texts WHERE texts MATCH '\"zeb\"'";
    Connection::open(index_of(path)).unwrap().query_row(count, [], |row| row.get(0)).unwrap()
}

/// A connection that reads for as long as it is there.
fn read(path: &Path, table: &str) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!("BEGIN; SELECT count(*) FROM {table}")).unwrap();
    db
}

/// Returns how many times this process has the file open.
fn n_open(path: &Path) -> usize {
    let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
    files.filter(|file| fs::read_link(file.path()).is_ok_and(|link| link == path)).count()
}

/// Goal: a deletion forgets only what it has erased. It forgot all, also what another one had removed meanwhile, whose text
/// then stayed in the text index. Method: it is held up at the index, after it has looked what to erase; the other
/// one removes a message that came before, and is killed.
#[tokio::test]
async fn what_another_deletion_removed_meanwhile_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("app.db");
    open_with_messages_of(&path, &["+1", "+2"]).await.close().await;
    let index = Connection::open(index_of(&path)).unwrap();
    index.execute_batch("BEGIN IMMEDIATE").unwrap();
    let n_open_before = n_open(&index_of(&path));
    let first = thread::scope(|scope| {
        let first = scope.spawn(|| delete(&path, "+2"));
        wait_until("the first one comes to the index", || n_open(&index_of(&path)) > n_open_before);
        let second =
            catch_unwind(|| sqlite::delete(&path, &of("+1"), &mut |_| panic!("the process is killed")));
        assert!(second.is_err());
        index.execute_batch("COMMIT").unwrap();
        first.join().unwrap()
    });
    assert_eq!(first, Deleted { messages: 1, left_before: 0, is_log_empty: true });
    assert_eq!(delete(&path, "+1"), Deleted { messages: 0, left_before: 1, is_log_empty: true });
    assert_eq!(n_indexed(&path), 0);
    assert_eq!(delete(&path, "+1"), Deleted { messages: 0, left_before: 0, is_log_empty: true });
}

/// Goal: a deletion that could not empty the log of the text index says so, and the next one finishes it. It
/// looked only at the log of the messages, and was done.
#[tokio::test]
async fn a_deletion_is_not_done_while_the_log_of_the_index_of_texts_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    open_with_messages_of(&path, &["+1"]).await.close().await;
    let reading = read(&index_of(&path), "progress");
    assert_eq!(delete(&path, "+1"), Deleted { messages: 1, left_before: 0, is_log_empty: false });
    drop(reading);
    assert_eq!(delete(&path, "+1"), Deleted { messages: 0, left_before: 1, is_log_empty: true });
    assert_eq!(n_indexed(&path), 0);
}

/// Goal: messages come in while a deletion waits for somebody who reads, and it is done soon after that. It held the
/// writer's lock for five seconds, and then gave up.
#[tokio::test]
async fn messages_do_not_wait_for_a_deletion_that_waits_for_somebody_who_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open_with_messages_of(&path, &["+1", "+2"]).await;
    let reading = read(&path, "messages");
    let (tell, told) = mpsc::channel();
    let deletion = thread::spawn({
        let path = path.clone();
        move || sqlite::delete(&path, &of("+1"), &mut |n| tell.send(n).unwrap()).unwrap()
    });
    assert_eq!(told.recv(), Ok(1));
    let (started, mut longest) = (Instant::now(), Duration::ZERO);
    for n in 0.. {
        let appending = Instant::now();
        store.append(vec![Sample::id(&format!("m{n}")).message()]).await.unwrap();
        longest = longest.max(appending.elapsed());
        if started.elapsed() > Duration::from_millis(1_500) {
            break;
        }
    }
    drop(reading);
    let deleted = deletion.join().unwrap();
    assert!(longest < Duration::from_millis(2_500), "a message waited for {longest:?}");
    assert_eq!(deleted, Deleted { messages: 1, left_before: 0, is_log_empty: true });
    store.close().await;
}
