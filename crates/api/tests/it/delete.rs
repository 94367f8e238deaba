//! `hookkeeper delete`.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;
use serde_json::json;

use crate::test_app::{TestApp, hookkeeper};

/// As it stands in a body and a text. In any case, and nowhere else.
const SECRET_TEXT: &str = "zebrafinch quokka 4711";

fn run(folder: &Path, args: &[&str]) -> Output {
    hookkeeper(folder).args(args).output().unwrap()
}

#[track_caller]
fn assert_done(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Returns true if any of these files has these bytes anywhere, in any case.
fn are_in_files(folder: &Path, needle: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let has_it = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap().to_ascii_lowercase();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    files.filter(has_it).map(|path| path.display().to_string()).collect()
}

/// Texts that the text index has a trigram of.
fn indexed_texts(app: &TestApp, trigram: &str) -> i64 {
    let index = Database::open(app.folder().path().join("data/app.db-search")).unwrap();
    index.busy_timeout(Duration::from_secs(5)).unwrap();
    index.execute_batch("CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, 'texts', 'row')").unwrap();
    index.query_row("SELECT count(*) FROM temp.terms WHERE term = ?1", [trigram], |row| row.get(0)).unwrap()
}

fn wait_until_indexed(app: &TestApp, trigram: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while indexed_texts(app, trigram) == 0 {
        assert!(Instant::now() < deadline, "{trigram} is not indexed");
        std::thread::yield_now();
    }
}

/// Goal: a message and a sender are gone from every answer and every file while the server serves, are still known as
/// duplicates, and the database is sound. Method: look at the bytes.
#[test]
fn deleted_messages_are_gone_from_answers_and_files_and_stay_duplicates() {
    let app = TestApp::start();
    for n in 0..40 {
        let from = if n % 4 == 0 { "+4711" } else { "+1" };
        app.store(
            &json!({"message_id": format!("m{n:02}"), "from": from, "text": format!("{SECRET_TEXT} {n}")}),
        );
    }
    app.store(&json!({"message_id": "kept", "from": "+2", "text": "nothing to hide"}));
    wait_until_indexed(&app, "uok");
    let folder = app.folder();
    let data = folder.path().join("data");
    assert!(!are_in_files(&data, SECRET_TEXT).is_empty());

    assert_done(&run(folder.path(), &["delete", "--message-id", "m01"]));
    assert_eq!(app.total(), 40);
    assert_eq!(app.ids("/messages?q=zebrafinch%20quokka&limit=100").len(), 39);
    assert_eq!(app.get("/stats").json()["total_messages"], 40);
    let output = run(folder.path(), &["delete", "--from", "+4711"]);
    assert_done(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("deleted 10 messages"), "{output:?}");
    assert_eq!(app.ids("/messages?from=%2B4711"), [""; 0]);
    let stats = app.get("/stats").json();
    assert_eq!((&stats["total_messages"], &stats["senders_count"]), (&json!(30), &json!(2)));
    assert_done(&run(folder.path(), &["delete", "--from=+1"]));
    assert_eq!(app.ids("/messages"), ["kept"]);
    assert_eq!(app.ids("/messages?q=quokka"), [""; 0]);

    assert_eq!(are_in_files(&data, SECRET_TEXT), [""; 0]);
    assert_eq!(are_in_files(&data, "+4711"), [""; 0]);
    assert_eq!(indexed_texts(&app, "uok"), 0, "a text could be guessed by its trigrams");
    for id in ["m00", "m01", "m02", "kept"] {
        let answer = app.receive_with(&json!({"message_id": id}));
        assert_eq!(answer.headers["x-webhook-result"], "duplicate", "{id}");
    }
    let line = app.log_line(|line| line["msg"] == "messages were deleted by hookkeeper delete");
    assert_eq!(line["deleted_messages"], 40);
    assert_eq!(app.metric("hookkeeper_deleted_total"), 40.0);
    app.store(&json!({"message_id": "later", "from": "+1"}));
    assert_eq!(app.get("/stats").json()["messages_per_sender"][0], json!({"from": "+1", "count": 1}));

    assert_done(&run(folder.path(), &["check"]));
    assert_done(&run(folder.path(), &["backup", "backups.db"]));
    assert_eq!(are_in_files(&folder.path().join("data"), SECRET_TEXT), [""; 0]);
    let backup = std::fs::read(folder.path().join("backups.db")).unwrap().to_ascii_lowercase();
    assert!(!backup.windows(SECRET_TEXT.len()).any(|window| window == SECRET_TEXT.as_bytes()));
}

/// The same without a server, what was not there, and what is no request at all.
#[test]
fn without_a_server_it_deletes_too_and_tells_by_its_exit_code_if_there_was_nothing() {
    let mut app = TestApp::start();
    for n in 0..5 {
        app.store(&json!({"message_id": format!("m{n}"), "text": format!("{SECRET_TEXT} {n}")}));
    }
    app.signal(rustix::process::Signal::TERM);
    app.end();
    let folder = app.folder();
    assert_done(&run(folder.path(), &["delete", "--message-id", "m3"]));
    assert_done(&run(folder.path(), &["check"]));
    let again = run(folder.path(), &["delete", "--message-id", "m3"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert_eq!(run(folder.path(), &["delete", "--from", "+99"]).status.code(), Some(1));
    for args in [&["delete"][..], &["delete", "--from", "+1", "--message-id", "x"]] {
        assert_eq!(run(folder.path(), args).status.code(), Some(2));
    }
    assert_done(&run(folder.path(), &["delete", "--from", "+919876543210"]));
    assert_eq!(are_in_files(&folder.path().join("data"), SECRET_TEXT), [""; 0]);
    assert_done(&run(folder.path(), &["check"]));
    let app = TestApp::on(folder, &[]);
    assert_eq!(app.total(), 0);
    assert_eq!(app.receive_with(&json!({"message_id": "m0"})).headers["x-webhook-result"], "duplicate");
    let elsewhere = tempfile::tempdir().unwrap();
    let output = run(elsewhere.path(), &["delete", "--message-id", "m0"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(std::fs::read_dir(elsewhere.path()).unwrap().next().is_none(), "nothing was made");
}

/// Expired messages are overwritten, too.
#[test]
fn expired_text_is_not_in_the_files() {
    let mut app = TestApp::start();
    for n in 0..40 {
        app.store(&json!({"message_id": format!("m{n:02}"), "text": format!("{SECRET_TEXT} {n} {}", "x".repeat(3_000))}));
    }
    app.signal(rustix::process::Signal::TERM);
    app.end();
    Database::open(app.database())
        .unwrap()
        .execute_batch(
            "UPDATE messages SET received_at_us = received_at_us - 2 * 86400000000; \
             UPDATE clock SET settled_us = unixepoch() * 1000000, stamped_seq = 40",
        )
        .unwrap();
    let mut app = TestApp::on(app.folder(), &[("RETENTION_DAYS", "1")]);
    app.log_line(|line| line["msg"] == "removed what has expired");
    app.signal(rustix::process::Signal::TERM);
    app.end();
    assert_eq!(are_in_files(&app.folder().path().join("data"), SECRET_TEXT), [""; 0]);
}
