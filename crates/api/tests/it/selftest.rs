//! `hookkeeper selftest`: it passes on a sound store, and finds what is wrong with one that is not.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection as Database, OpenFlags};

use crate::test_app::hookkeeper;

/// For the instance to have stored some messages.
const STORED_TIME_MAX: Duration = Duration::from_secs(30);

/// A self-test of this folder.
fn selftest(folder: &Path, options: &[&str]) -> Command {
    let mut command = hookkeeper(folder);
    command.args(["selftest", "."]).args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap()
}

/// The number after this word in the report.
fn count(said: &str, what: &str) -> u64 {
    let after = said.split(&format!("{what} ")).nth(1).unwrap_or_else(|| panic!("no {what} in {said}"));
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|e| panic!("{e}: {what} in {said}"))
}

/// The database of a self-test that runs, as soon as it holds some messages.
fn database_with_messages(path: &Path) -> Database {
    let deadline = Instant::now() + STORED_TIME_MAX;
    loop {
        assert!(Instant::now() < deadline, "nothing is stored");
        let opened =
            Database::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|database| {
                let n_rows: i64 =
                    database.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))?;
                Ok((database, n_rows))
            });
        match opened {
            Ok((database, 100..)) => return database,
            _ => thread::yield_now(),
        }
    }
}

#[test]
fn a_short_run_keeps_every_promise_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // The operator's own settings: none of them may reach the instance.
    let own = [
        ("DATABASE_URL", "sqlite:///precious.db"),
        ("WEBHOOK_SECRET", "own"),
        ("API_TOKEN", "own"),
        ("BIND_ADDR", "wrong"),
        ("http_proxy", "http://127.0.0.1:9"),
    ];
    let output = selftest(folder.path(), &["--kills", "6", "--seed", "7"]).envs(own).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.starts_with("seed 7, ") && said.contains("kills 6 in "), "{said}");
    for kept in ["lost", "doubled", "invented", "altered", "miscounted", "misanswered", "damaged"] {
        assert_eq!(count(&said, kept), 0, "{said}");
    }
    for tried in ["created", "duplicate", "401", "422", "hung up", "cut off", "without an answer"] {
        assert!(count(&said, tried) > 0, "{tried}: {said}");
    }
    // What was acknowledged as new is stored, and so may be what was left without an answer.
    let (created, stored) = (count(&said, "created"), count(&said, "stored"));
    assert!(created <= stored && stored <= created + count(&said, "hung up") + count(&said, "cut off"));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "it removes what it made");
}

/// Goal: the self-test can fail. Method: another hand changes the database while it runs.
#[test]
fn what_vanishes_changes_or_appears_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let child = selftest(folder.path(), &["--kills", "20", "--seed", "7"]).spawn().unwrap();
    let path = folder.path().join("hookkeeper-selftest/app.db");
    let database = database_with_messages(&path);
    database
        .execute_batch(
            "DELETE FROM messages WHERE seq <= 40; \
             UPDATE messages SET recipient = '+1' WHERE seq BETWEEN 41 AND 80; \
             INSERT INTO messages SELECT 1000000, source_id, 'foreign', sender, recipient, ts, ts_us, ts_finer, \
                                         text, received_at_us, body_sha256, body FROM messages LIMIT 1;",
        )
        .unwrap();
    drop(database);

    let output = child.wait_with_output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    // Some of those that vanished come again, and are then `created` twice, or of another version.
    assert!((1..=40).contains(&count(&said, "lost")), "{said}");
    assert!(count(&said, "altered") >= 40, "{said}");
    assert!(count(&said, "invented") >= 1, "{said}");
    assert!(count(&said, "miscounted") >= 1, "{said}");
    assert!(said.contains("a promise was broken; see ./hookkeeper-selftest"), "{said}");
    assert!(path.exists(), "what is wrong is kept");
}

/// Method: the database is made one of a newer version, which the next instance refuses.
#[test]
fn an_instance_that_does_not_start_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let child = selftest(folder.path(), &["--kills", "20", "--seed", "7"]).spawn().unwrap();
    let database = database_with_messages(&folder.path().join("hookkeeper-selftest/app.db"));
    database.execute("UPDATE refinery_schema_history SET version = 999 WHERE version = 2", []).unwrap();
    drop(database);
    let output = child.wait_with_output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("999"), "the instance says why: {said}");
    assert!(said.contains("an instance did not start") || said.contains("ended by itself"), "{said}");
    assert!(said.contains("; see ./hookkeeper-selftest"), "{said}");
}

#[test]
fn a_bound_in_seconds_ends_it_early() {
    let folder = tempfile::tempdir().unwrap();
    let output = selftest(folder.path(), &["--kills", "10000", "--seconds", "1"]).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!((1..1000).contains(&count(&said, "kills")), "{said}");
}

#[test]
fn it_touches_nothing_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("hookkeeper-selftest");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("app.db"), "precious").unwrap();
    let output = selftest(folder.path(), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cannot create ./hookkeeper-selftest"), "{output:?}");
    assert_eq!(fs::read(there.join("app.db")).unwrap(), b"precious");
    assert_eq!(selftest(&there, &["--kills", "0"]).output().unwrap().status.code(), Some(2));
    let nowhere = hookkeeper(folder.path()).args(["selftest", "nowhere"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(1), "it makes no folder but its own");
}
