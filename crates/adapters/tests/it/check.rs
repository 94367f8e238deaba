//! Checks: each kind of damage is found.

use std::path::{Path, PathBuf};

use adapters::sqlite::check;
use domain::store::MessageStore;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::backup::{database, message, replace};
use crate::numbered::index_all;
use crate::sqlite::open;

pub(crate) type Damage = Box<dyn Fn(&Path)>;

/// Each kind of damage, and what a check says of it.
pub(crate) fn damages() -> Vec<(Damage, &'static str)> {
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
