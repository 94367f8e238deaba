//! Backups: complete, sound, and never over a file that exists.

use std::path::{Path, PathBuf};

use adapters::digest::sha256;
use adapters::sqlite::{BackupError, Problem, Report, RestoreError, backup, check, newest_schema, restore};
use domain::contract::Sample;
use domain::message::NewMessage;
use domain::store::MessageStore;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::numbered::index_all;
use crate::sqlite::open;

pub(crate) fn message(id: &str, from: &str) -> NewMessage {
    let mut message = Sample::id(id).from(from).message();
    message.verified.body_digest = sha256(&message.body);
    message
}

/// A database with three messages of two senders, closed.
pub(crate) async fn database(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("app.db");
    let store = open(&path);
    for (id, from) in [("m1", "+1"), ("m2", "+2"), ("m3", "+1")] {
        store.append(vec![message(id, from)]).await.unwrap();
    }
    index_all(&store, &path).await;
    store.close().await;
    path
}

pub(crate) fn back_up(path: &Path, dest: &Path) -> Result<Report, BackupError> {
    backup(path, dest, &mut |_, _| {})
}

pub(crate) fn put_back(src: &Path, path: &Path) -> Result<Report, RestoreError> {
    restore(src, path, &mut |_, _| {})
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

pub(crate) fn ids(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let mut statement = db.prepare("SELECT message_id FROM messages ORDER BY seq").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// Replaces bytes of a file that are there once.
pub(crate) fn replace(path: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let at: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i..].starts_with(from)).collect();
    assert_eq!(at.len(), 1, "{at:?}");
    bytes[at[0]..at[0] + from.len()].copy_from_slice(to);
    std::fs::write(path, bytes).unwrap();
}

pub(crate) fn replace_schema_version(path: &Path, version: i32) {
    let db = Connection::open(path).unwrap();
    db.execute("UPDATE refinery_schema_history SET version = ?1 WHERE name = (SELECT name FROM refinery_schema_history ORDER BY version DESC LIMIT 1)", [version]).unwrap();
}

/// A message that takes up this many bytes and more.
fn large_message(id: &str, bytes: usize) -> NewMessage {
    let mut message = message(id, "+1");
    message.body = vec![b'x'; bytes].into();
    message.verified.body_digest = sha256(&message.body);
    message
}

#[tokio::test]
async fn a_backup_is_one_file_that_is_a_database_by_itself() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let before = std::fs::read(&path).unwrap();
    let dest = elsewhere.path().join("b.db");
    let report = back_up(&path, &dest).unwrap();
    let want = Report { messages: 3, senders: 2, schema_version: newest_schema(), problems: vec![] };
    assert_eq!(report, want);
    assert_eq!(report.to_string(), format!("messages 3, senders 2, schema version {}: ok", newest_schema()));
    assert_eq!(files(elsewhere.path()), ["b.db"]);
    let bytes = std::fs::read(&dest).unwrap();
    // Offsets 18 and 19: 1 is a rollback journal, 2 would be a write-ahead log (SQLite's file format).
    assert_eq!(bytes[18..20], [1, 1]);
    assert_eq!(ids(&dest), ["m1", "m2", "m3"]);
    assert_eq!(std::fs::read(&path).unwrap(), before, "the source is as it was");
}

/// Goal: a backup ends beside a busy server, and is of one moment. Method: commit after every step
/// of the copy, which without a snapshot makes SQLite begin anew each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_after_every_step_does_not_hold_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    for n in 0..6 {
        store.append(vec![large_message(&format!("before {n}"), 1 << 20)]).await.unwrap();
    }
    let dest = folder.path().join("b.db");
    let mut steps = Vec::new();
    let report = tokio::task::block_in_place(|| {
        backup(&path, &dest, &mut |done, total| {
            let during = large_message(&format!("during {}", steps.len()), 1 << 20);
            tokio::runtime::Handle::current().block_on(store.append(vec![during])).unwrap();
            steps.push((done, total));
            assert!(steps.len() < 100, "it begins anew: {steps:?}");
        })
    })
    .unwrap();
    assert!(steps.len() > 5 && steps.is_sorted(), "{steps:?}");
    assert!(steps.iter().all(|(_, total)| *total == steps[0].1), "{steps:?}");
    assert_eq!(steps.last().unwrap().0, steps[0].1);
    assert_eq!(report.messages, 6);
    assert!(ids(&dest).iter().all(|id| id.starts_with("before")));
    assert_eq!(check(&path).unwrap().messages, 6 + steps.len() as u64, "beside the open store");
    store.close().await;
}

#[tokio::test]
async fn what_is_only_in_the_log_is_backed_up_and_stays_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    store.append(vec![message("m1", "+1")]).await.unwrap();
    let log = folder.path().join("app.db-wal");
    let before = (std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap());
    assert!(!before.1.is_empty());
    let dest = folder.path().join("b.db");
    assert_eq!(back_up(&path, &dest).unwrap().messages, 1);
    assert_eq!((std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap()), before);
    store.close().await;
}

#[tokio::test]
async fn a_backup_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder).await;
    for taken in ["b.db", "b.db-wal", "b.db-journal"] {
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join(taken), "precious").unwrap();
        let error = back_up(&path, &elsewhere.path().join("b.db")).unwrap_err();
        assert!(matches!(error, BackupError::Exists(_)), "{error}");
        assert!(error.to_string().contains(taken), "{error}");
        assert_eq!(files(elsewhere.path()), [taken]);
        assert_eq!(std::fs::read(elsewhere.path().join(taken)).unwrap(), b"precious");
    }
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(back_up(&path, &path).unwrap_err(), BackupError::Exists(_)));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// Somebody else makes the file while ours is being copied.
#[tokio::test]
async fn a_file_that_appears_meanwhile_is_not_overwritten_either() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    let error = backup(&path, &dest, &mut |_, _| std::fs::write(&dest, "precious").unwrap());
    assert!(matches!(error.unwrap_err(), BackupError::Exists(_)));
    assert_eq!(std::fs::read(&dest).unwrap(), b"precious");
    assert_eq!(files(elsewhere.path()), ["b.db"]);
}

#[tokio::test]
async fn a_backup_of_what_can_not_be_restored_is_refused() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dest = elsewhere.path().join("b.db");
    let nowhere = folder.path().join("nowhere.db");
    let error = back_up(&nowhere, &dest).unwrap_err();
    assert!(error.to_string().contains("no database at"), "{error}");
    assert!(!nowhere.exists());
    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let error = back_up(&foreign, &dest).unwrap_err();
    assert!(matches!(error, BackupError::Refused { problem: Problem::NoSchema, .. }), "{error}");
    let path = database(&folder).await;
    replace_schema_version(&path, newest_schema() + 1);
    let error = back_up(&path, &dest).unwrap_err();
    assert!(error.to_string().contains("newer"), "{error}");
    let no_folder = elsewhere.path().join("x/b.db");
    assert!(matches!(back_up(&path, &no_folder).unwrap_err(), BackupError::Refused { .. }));
    replace_schema_version(&path, newest_schema());
    assert!(matches!(back_up(&path, &no_folder).unwrap_err(), BackupError::File { .. }));
    assert!(files(elsewhere.path()).is_empty(), "{:?}", files(elsewhere.path()));
}

#[tokio::test]
async fn a_damaged_database_is_not_taken_for_a_backup() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    Connection::open(&path).unwrap().execute_batch("UPDATE totals SET message_count = 4").unwrap();
    let error = back_up(&path, &elsewhere.path().join("b.db")).unwrap_err();
    assert!(matches!(error, BackupError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("total of messages is 4, there are 3"), "{error}");
    assert!(files(elsewhere.path()).is_empty(), "{:?}", files(elsewhere.path()));
}
