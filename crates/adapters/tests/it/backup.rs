//! Backup, restore and check: what each promises, and each kind of damage.

use std::path::{Path, PathBuf};

use adapters::digest::sha256;
use adapters::sqlite::{BackupError, Problem, Report, RestoreError, SCHEMA_VERSION, backup, check, restore};
use domain::contract::Sample;
use domain::message::NewMessage;
use domain::store::MessageStore;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::layout::index_all;
use crate::sqlite::open;

fn message(id: &str, from: &str) -> NewMessage {
    let mut message = Sample::id(id).from(from).message();
    message.verified.body_digest = sha256(&message.body);
    message
}

/// A message that takes up this many bytes and more.
fn large_message(id: &str, bytes: usize) -> NewMessage {
    let mut message = message(id, "+1");
    message.body = vec![b'x'; bytes].into();
    message.verified.body_digest = sha256(&message.body);
    message
}

/// A database with three messages of two senders, closed.
async fn database(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("app.db");
    let store = open(&path);
    for (id, from) in [("m1", "+1"), ("m2", "+2"), ("m3", "+1")] {
        store.append(vec![message(id, from)]).await.unwrap();
    }
    index_all(&store, &path).await;
    store.close().await;
    path
}

fn back_up(path: &Path, dest: &Path) -> Result<Report, BackupError> {
    backup(path, dest, &mut |_, _| {})
}

fn put_back(src: &Path, path: &Path) -> Result<Report, RestoreError> {
    restore(src, path, &mut |_, _| {})
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn ids(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let mut statement = db.prepare("SELECT message_id FROM messages ORDER BY seq").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// Replaces bytes of a file that are there once.
fn replace(path: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let at: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i..].starts_with(from)).collect();
    assert_eq!(at.len(), 1, "{at:?}");
    bytes[at[0]..at[0] + from.len()].copy_from_slice(to);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_backup_is_one_file_that_is_a_database_by_itself() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let before = std::fs::read(&path).unwrap();
    let dest = elsewhere.path().join("b.db");
    let report = back_up(&path, &dest).unwrap();
    let want = Report { messages: 3, senders: 2, schema_version: SCHEMA_VERSION, problems: vec![] };
    assert_eq!(report, want);
    assert_eq!(report.to_string(), format!("messages 3, senders 2, schema version {SCHEMA_VERSION}: ok"));
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
    replace_schema_version(&path, SCHEMA_VERSION + 1);
    let error = back_up(&path, &dest).unwrap_err();
    assert!(error.to_string().contains("newer"), "{error}");
    let no_folder = elsewhere.path().join("x/b.db");
    assert!(matches!(back_up(&path, &no_folder).unwrap_err(), BackupError::Refused { .. }));
    replace_schema_version(&path, SCHEMA_VERSION);
    assert!(matches!(back_up(&path, &no_folder).unwrap_err(), BackupError::File { .. }));
    assert!(files(elsewhere.path()).is_empty(), "{:?}", files(elsewhere.path()));
}

fn replace_schema_version(path: &Path, version: i32) {
    let db = Connection::open(path).unwrap();
    db.execute("UPDATE refinery_schema_history SET version = ?1 WHERE name = (SELECT name FROM refinery_schema_history ORDER BY version DESC LIMIT 1)", [version]).unwrap();
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

#[tokio::test]
async fn a_restored_database_goes_on_where_the_backup_was() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let restored = elsewhere.path().join("new/folder/app.db");
    assert_eq!(put_back(&dest, &restored).unwrap().messages, 3);
    assert_eq!(files(restored.parent().unwrap()), ["app.db"]);
    assert!(check(&restored).unwrap().is_ok());
    let store = open(&restored);
    store.append(vec![message("m3", "+1"), message("m4", "+1")]).await.unwrap();
    store.close().await;
    assert_eq!(ids(&restored), ["m1", "m2", "m3", "m4"]);
}

#[tokio::test]
async fn an_empty_database_is_replaced_with_all_that_lies_beside_it() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let empty = elsewhere.path().join("data/app.db");
    let (log, index) = (empty.with_extension("db-wal"), empty.with_extension("db-shm"));
    // One that a server made and closed; a file without a byte; nothing but what lay beside it.
    open(&empty).close().await;
    for _ in 0..3 {
        std::fs::write(&log, "").unwrap();
        std::fs::write(&index, [7; 32 << 10]).unwrap();
        put_back(&dest, &empty).unwrap();
        assert_eq!(files(empty.parent().unwrap()), ["app.db"]);
        assert_eq!(ids(&empty), ["m1", "m2", "m3"]);
        if std::fs::metadata(&empty).unwrap().len() > 0 {
            std::fs::write(&empty, "").unwrap();
        } else {
            std::fs::remove_file(&empty).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restore_never_overwrites() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let refused = |says: &str| {
        let before = std::fs::read(&path).unwrap();
        let error = put_back(&dest, &path).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        error
    };
    assert!(matches!(refused("holds 3 messages"), RestoreError::Holds { messages: 3, .. }));
    std::fs::write(folder.path().join("app.db-wal"), "precious").unwrap();
    assert!(matches!(refused("app.db-wal is not empty"), RestoreError::Log(_)));
    std::fs::remove_file(&path).unwrap();
    assert!(
        matches!(put_back(&dest, &path).unwrap_err(), RestoreError::Log(_)),
        "a log without its database"
    );
    std::fs::remove_file(folder.path().join("app.db-wal")).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE notes (x)").unwrap();
    assert!(matches!(refused("not a database of hookkeeper"), RestoreError::Foreign(_)));
    std::fs::remove_file(&path).unwrap();
    open(&path).close().await;
    replace_schema_version(&path, SCHEMA_VERSION + 1);
    refused("newer hookkeeper");
    std::fs::write(&path, "Dear diary, this is not a database. ".repeat(100)).unwrap();
    refused("not a database");
}

#[tokio::test]
async fn a_database_that_is_open_elsewhere_is_not_restored_into() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let empty = elsewhere.path().join("app.db");
    let store = open(&empty);
    let error = put_back(&dest, &empty).unwrap_err();
    assert!(matches!(error, RestoreError::Log(_)), "{error}");
    store.append(vec![]).await.unwrap();
    store.close().await;
    drop(store);
    // Another program, which has written nothing.
    let other = Connection::open(&empty).unwrap();
    assert!(ids(&empty).is_empty());
    other.query_row("SELECT count(*) FROM messages", [], |_| Ok(())).unwrap();
    let error = put_back(&dest, &empty).unwrap_err();
    assert!(matches!(error, RestoreError::InUse(_)), "{error}");
    drop(other);
    put_back(&dest, &empty).unwrap();
}

/// So that a server which starts meanwhile waits, and does not find an empty database.
#[tokio::test]
async fn nobody_sees_half_a_restore() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let dest = elsewhere.path().join("b.db");
    back_up(&path, &dest).unwrap();
    let target = elsewhere.path().join("app.db");
    let mut looks = 0;
    let report = restore(&dest, &target, &mut |_, _| {
        let db = Connection::open(&target).unwrap();
        db.busy_timeout(std::time::Duration::ZERO).unwrap();
        let look = db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        assert_eq!(look.unwrap_err().sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
        looks += 1;
    });
    assert!(report.unwrap().is_ok() && looks > 0);
    assert_eq!(ids(&target).len(), 3);
}

#[tokio::test]
async fn a_damaged_backup_is_not_restored() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = database(&folder).await;
    let sound = elsewhere.path().join("sound.db");
    back_up(&path, &sound).unwrap();
    let src = elsewhere.path().join("b.db");
    let target = elsewhere.path().join("data/app.db");
    for (damage, says) in damages() {
        std::fs::copy(&sound, &src).unwrap();
        damage(&src);
        let error = put_back(&src, &target).unwrap_err();
        assert!(matches!(error, RestoreError::Damaged { .. }), "{says}: {error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(!target.parent().unwrap().exists(), "{says}: nothing is made");
    }
    let error = put_back(&elsewhere.path().join("nowhere.db"), &target).unwrap_err();
    assert!(error.to_string().contains("no database at"), "{error}");
}

type Damage = Box<dyn Fn(&Path)>;

/// Each kind of damage, and what a check says of it.
fn damages() -> Vec<(Damage, &'static str)> {
    let sql = |statements: &'static str| -> Damage {
        Box::new(move |path| {
            let db = Connection::open(path).unwrap();
            db.execute_batch("PRAGMA foreign_keys = off").unwrap();
            db.execute_batch(statements).unwrap();
        })
    };
    let first_body = message("m1", "+1").body;
    let flipped: Vec<u8> = first_body.iter().map(|byte| byte ^ 1).collect();
    vec![
        (Box::new(move |path| replace(path, &first_body, &flipped)), "body of message 1 does not agree"),
        (sql("UPDATE messages SET body_sha256 = zeroblob(32) WHERE seq = 2"), "body of message 2 does not"),
        (sql("UPDATE totals SET message_count = 2"), "total of messages is 2, there are 3"),
        (sql("UPDATE totals SET message_count = -1"), "total of messages is -1, there are 3"),
        (sql("UPDATE totals SET sender_count = 3"), "total of senders is 3, there are 2"),
        (sql("DELETE FROM totals"), "there are 0 rows of totals, not one"),
        (sql("UPDATE senders SET message_count = 5 WHERE sender = '+1'"), "sender +1 is 7, there are 2"),
        (sql("DELETE FROM senders WHERE sender = '+2'"), "sender +2 is 0, there are 1"),
        (sql("INSERT INTO senders VALUES ('+3', 1, 0, 0)"), "sender +3 is 1, there are 0"),
        (sql("DELETE FROM messages WHERE seq = 3"), "total of messages is 3, there are 2"),
        (sql("DELETE FROM top_senders WHERE sender = '+1'"), "the ranking of the busiest senders"),
        (sql("DELETE FROM sources"), "row 1 of messages refers to a row of sources that is not there"),
        (
            sql(
                "PRAGMA ignore_check_constraints = on; UPDATE messages SET body_sha256 = x'00' WHERE seq = 1",
            ),
            "body of message 1 does not agree",
        ),
        (
            sql("PRAGMA writable_schema = on; \
                 UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'messages_by_time') \
                 WHERE name = 'senders'"),
            "damaged: ",
        ),
        (sql("UPDATE refinery_schema_history SET version = version + 1000"), "made by a newer hookkeeper"),
        (sql("DROP TABLE refinery_schema_history"), "not a database of hookkeeper"),
        (
            Box::new(|path| {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_len(file.metadata().unwrap().len() - 4096).unwrap();
            }),
            "damaged: ",
        ),
        (Box::new(|path| std::fs::write(path, "").unwrap()), "not a database of hookkeeper"),
        (Box::new(|path| std::fs::write(path, "Dear diary. ".repeat(100)).unwrap()), "not a database"),
    ]
}

#[tokio::test]
async fn a_check_finds_each_kind_of_damage() {
    let folder = tempfile::tempdir().unwrap();
    let sound = database(&folder).await;
    assert!(check(&sound).unwrap().is_ok());
    for (damage, says) in damages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        std::fs::copy(&sound, &path).unwrap();
        damage(&path);
        let report = check(&path).unwrap();
        assert!(!report.is_ok() && report.to_string().contains(says), "{says}: {report}");
    }
}

/// So many that they are indexed when the database is opened again.
async fn indexed_database(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("app.db");
    let store = open(&path);
    for n in 0..10 {
        let messages = (0..500).map(|m| message(&format!("m{n}-{m}"), &format!("+{}", m % 7))).collect();
        store.append(messages).await.unwrap();
        if n == 8 {
            index_all(&store, &path).await;
        }
    }
    store.close().await;
    path
}

#[tokio::test]
async fn a_check_compares_the_indexes_with_the_messages() {
    let folder = tempfile::tempdir().unwrap();
    let sound = indexed_database(&folder).await;
    let report = check(&sound).unwrap();
    assert!(report.is_ok() && report.messages == 5000, "{report}");
    for (damage, says) in [
        ("DELETE FROM message_keys WHERE seq = 7", "message 7 is not in message_keys"),
        ("UPDATE message_keys SET seq = 8 WHERE seq = 7", "message 7 is not in message_keys"),
        ("UPDATE messages SET message_id = 'm0-1' WHERE seq = 5000", "messages 2 and 5000 have the same"),
        ("DELETE FROM messages_by_time WHERE seq = 7", "message 7 is not in messages_by_time"),
        (
            "UPDATE messages_by_sender SET sender = '+9' WHERE seq = 7",
            "message 7 is not in messages_by_sender",
        ),
        ("INSERT INTO messages_by_time VALUES (1, '', 'm', 1)", "messages_by_time has"),
        (
            "UPDATE totals SET last_seq = 4999",
            "the last message has place 5000, but the recorded last place is 4999",
        ),
        ("INSERT INTO segments VALUES (0, 0, zeroblob(196608))", "the filter of segment 0 leaves out keys"),
        ("INSERT INTO segments VALUES (0, 0, x'ff')", "the filter of segment 0 leaves out keys"),
        ("UPDATE time_counts SET message_count = 1 WHERE level = 0", "by time is wrong: level 0"),
        ("DELETE FROM time_counts WHERE level = 6", "by time is wrong: level 6"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        std::fs::copy(&sound, &path).unwrap();
        Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        let report = check(&path).unwrap();
        assert!(!report.is_ok() && report.to_string().contains(says), "{says}: {report}");
    }
}

#[tokio::test]
async fn a_check_tells_every_problem_and_at_most_ten_of_a_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open(&path);
    let messages = (0..12).map(|n| message(&format!("m{n}"), &format!("+{n}"))).collect();
    store.append(messages).await.unwrap();
    index_all(&store, &path).await;
    store.close().await;
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "UPDATE messages SET body_sha256 = zeroblob(32); \
         UPDATE senders SET message_count = 2; \
         UPDATE totals SET message_count = 1, sender_count = 1",
    )
    .unwrap();
    drop(db);
    let report = check(&path).unwrap();
    assert_eq!((report.messages, report.senders), (12, 12));
    assert_eq!(report.problems.len(), 10 + 10 + 2, "{report}");
    assert_eq!(report.to_string().lines().count(), 1 + 22);
    assert!(check(&folder.path().join("nowhere.db")).is_err());
}
