//! Section 1: the process, its configuration and its files.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::test_app::{Connection, EXAMPLE, SECRET, TestApp, hookkeeper, request, wait_for, webhook};

/// Runs the binary until it exits.
pub(crate) fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    hookkeeper(folder).args(arguments).envs(variables.iter().copied()).output().unwrap()
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().unwrap().next().is_none()
}

#[test]
fn it_starts_on_an_empty_folder_and_restarts_with_its_data() {
    let app = TestApp::start();
    assert!(app.database().exists());
    app.store(&json!({}));
    let folder = app.folder();
    app.stop();
    let app = TestApp::on(folder, &[]);
    assert_eq!(app.ids("/messages"), ["m1"]);
    assert_eq!(app.receive(EXAMPLE).headers["x-webhook-result"], "duplicate");
    assert_eq!(app.total(), 1);
}

#[test]
fn three_slashes_are_relative_and_four_are_absolute() {
    let app = TestApp::with(&[("DATABASE_URL", "sqlite:///here/relative.db")]);
    assert!(app.folder().path().join("here/relative.db").exists());
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("there/absolute.db");
    let _app = TestApp::with(&[("DATABASE_URL", &format!("sqlite:///{}", path.display()))]);
    assert!(path.exists());
}

#[test]
fn every_mistake_in_the_configuration_is_named_and_nothing_is_created() {
    for (variable, value, allowed) in [
        ("LOG_LEVEL", "LOUD", "ERROR, WARN, INFO or DEBUG"),
        ("BIND_ADDR", "nowhere", "IP:PORT"),
        ("BIND_ADDR", "127.0.0.1", "IP:PORT"),
        ("BIND_ADDR", "127.0.0.1:99999", "IP:PORT"),
        ("DATABASE_URL", "mysql://x/y", "sqlite:///"),
        ("DATABASE_URL", "sqlite://data/app.db", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///data/", "sqlite:///"),
        ("DATABASE_URL", "data/app.db", "sqlite:///"),
        ("BODY_BYTES_MAX", "0", "1 to 16777216"),
        ("BODY_BYTES_MAX", "1MB", "1 to 16777216"),
        ("BODY_BYTES_MAX", "16777217", "1 to 16777216"),
        ("RETENTION_DAYS", "0", "1 to 36500"),
        ("RETENTION_DAYS", "a week", "1 to 36500"),
        ("RETENTION_DAYS", "36501", "1 to 36500"),
        ("DEDUPE_DAYS", "30", "only with RETENTION_DAYS"),
    ] {
        let flag = format!("--{}={value}", variable.to_ascii_lowercase().replace('_', "-"));
        let folder = tempfile::tempdir().unwrap();
        for output in [
            run(folder.path(), &[], &[("WEBHOOK_SECRET", SECRET), (variable, value)]),
            run(folder.path(), &["serve", &flag], &[("WEBHOOK_SECRET", SECRET)]),
        ] {
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{stderr}");
            for part in [variable, value, allowed] {
                assert!(stderr.contains(part), "{part} is not in {stderr}");
            }
            assert!(!stderr.contains(SECRET));
            assert!(output.stdout.is_empty());
            assert!(is_empty(folder.path()), "{variable}={value} made files");
        }
    }
}

#[test]
fn the_password_of_a_url_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[], &[("DATABASE_URL", "postgres://hk:hun@ter2@db:5432/inbox")]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("postgres://[redacted]@db:5432/inbox") && !stderr.contains("ter2"), "{stderr}");
}

#[test]
fn all_mistakes_are_told_together() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[], &[("LOG_LEVEL", "x"), ("BIND_ADDR", "x"), ("DATABASE_URL", "x")]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(["LOG_LEVEL", "BIND_ADDR", "DATABASE_URL"].iter().all(|v| stderr.contains(v)), "{stderr}");
}

#[test]
fn an_unknown_flag_or_command_is_a_mistake_too() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--colour"][..], &["fly"], &["serve", "extra"]] {
        let output = run(folder.path(), arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(is_empty(folder.path()));
    }
}

#[test]
fn every_variable_is_a_flag_and_the_flag_wins() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "--database-url=sqlite:///f.db",
        "--log-level=warn",
        "--webhook-secret=s",
        "--body-bytes-max=9",
        "--api-token=t",
        "--ops-bind-addr=127.0.0.1:0",
        "--trusted-proxies=10.0.0.1",
    ];
    // With the flags taken, what is left to complain of is the one wrong variable.
    let variables = [
        ("DATABASE_URL", "x"),
        ("LOG_LEVEL", "x"),
        ("BODY_BYTES_MAX", "x"),
        ("OPS_BIND_ADDR", "x"),
        ("TRUSTED_PROXIES", "x"),
        ("BIND_ADDR", "wrong"),
    ];
    let output = run(folder.path(), &flags, &variables);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    assert!(stderr.contains("BIND_ADDR"), "{stderr}");
}

#[test]
fn empty_variables_are_as_good_as_none() {
    let app = TestApp::with(&[("DATABASE_URL", ""), ("LOG_LEVEL", ""), ("BODY_BYTES_MAX", "")]);
    assert!(app.database().exists());
    assert_eq!(app.get("/health/ready").status, 200);
}

#[test]
fn an_address_that_is_taken_is_an_error_and_no_database_is_made() {
    let app = TestApp::start();
    let folder = tempfile::tempdir().unwrap();
    let addr = app.addr.to_string();
    let output = run(folder.path(), &[], &[("BIND_ADDR", &addr)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&addr));
    assert!(is_empty(folder.path()));
}

#[test]
fn a_newer_database_is_refused_and_not_touched() {
    let app = TestApp::start();
    app.store(&json!({}));
    let (folder, path) = (app.folder(), app.database());
    app.stop();
    let database = Database::open(&path).unwrap();
    database
        .execute_batch(
            "INSERT INTO refinery_schema_history SELECT 999, name, applied_on, checksum FROM refinery_schema_history LIMIT 1; \
             PRAGMA wal_checkpoint(truncate)",
        )
        .unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    for command in ["serve", "migrate"] {
        let output = run(folder.path(), &[command], &[("BIND_ADDR", "127.0.0.1:0")]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("999") && stderr.contains("newer"), "{stderr}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[test]
fn sigterm_and_sigint_end_it_with_0_and_the_log_is_in_the_database() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut app = TestApp::start();
        app.store(&json!({}));
        // A connection that idles must not hold it up.
        let mut idle = app.connect();
        assert_eq!(idle.ask(&webhook(EXAMPLE)).status, 200);
        app.signal(signal);
        let (status, lines) = app.end();
        assert_eq!(status.code(), Some(0));
        assert!(lines.last().unwrap().contains("\"stopped\""), "{lines:?}");
        let log = app.database().with_extension("db-wal");
        assert!(log.metadata().is_ok_and(|log| log.len() == 0), "all of it is in the database");
        let database = Database::open(app.database()).unwrap();
        let n_rows: i64 = database.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
        assert_eq!(n_rows, 1);
    }
}

/// Goal: nothing holds the end up for longer than ten seconds. Method: another process's lock, which the
/// waiting message can't get past.
#[test]
fn it_ends_in_ten_seconds_behind_a_lock() {
    let mut app = TestApp::start();
    let lock = Database::open(app.database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = app.connect();
    waiting.send(&webhook(EXAMPLE));
    let started = Instant::now();
    app.signal(Signal::TERM);
    app.end();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// The same with a log that nobody reads. Method: fill the pipe and the buffer in front of it.
#[test]
fn it_serves_and_ends_when_nobody_reads_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let addr = "127.77.1.1:8000";
    let mut child = hookkeeper(folder.path())
        .envs([("WEBHOOK_SECRET", SECRET), ("BIND_ADDR", addr)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut connection = Connection::to(wait_for(addr.parse().unwrap()));
    let path = format!("/{}", "x".repeat(255));
    let request = request("GET", &path, &[], b"");
    // Half a kilobyte a line: five megabytes, twice what may wait.
    for _ in 0..10_000 {
        assert_eq!(connection.ask(&request).status, 404);
    }
    assert_eq!(connection.ask(&webhook(EXAMPLE)).status, 200);
    let started = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(status.code(), Some(0));
}

/// Reads what a service manager is told until the service is ready.
fn told_until_ready(folder: &Arc<TempDir>) -> Vec<String> {
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let path = folder.path().join("notify");
    let app = TestApp::on(Arc::clone(folder), &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    std::fs::remove_file(&path).unwrap();
    let mut told = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let n = socket.recv(&mut bytes).unwrap();
        told.push(String::from_utf8(bytes[..n].to_vec()).unwrap());
        if told.last().unwrap().contains("READY=1") {
            app.stop();
            return told;
        }
    }
}

/// A long migration was killed by systemd after 90 s, and begun again for ever. Method: a database of the first version,
/// and what it takes to index its messages.
#[test]
fn a_start_that_migrates_tells_systemd_that_it_goes_on() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let is_extension = |line: &&String| line.contains("EXTEND_TIMEOUT_USEC=");
    let n_told = told_until_ready(&folder).iter().filter(is_extension).count();
    assert!(n_told >= 1, "what comes before the first look may take long, too");

    let (current, old) = (folder.path().join("data/app.db"), folder.path().join("old.db"));
    let db = Database::open(&old).unwrap();
    db.execute_batch(include_str!("../../../../migrations/sqlite/V1__inbox.sql")).unwrap();
    db.execute("ATTACH ?1 AS current", [current.to_str()]).unwrap();
    db.execute_batch(
        "CREATE TABLE refinery_schema_history AS SELECT * FROM current.refinery_schema_history WHERE version = 1; \
         DETACH current; \
         INSERT INTO messages WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 40000) \
         SELECT n, 1, 'm' || n, '+1', '+2', '2025-01-15T10:00:00Z', 1736935200000000, '', NULL, n, zeroblob(32), x'' FROM n; \
         INSERT INTO senders VALUES ('+1', 40000); INSERT INTO top_senders VALUES ('+1', 40000); \
         UPDATE totals SET message_count = 40000, sender_count = 1",
    )
    .unwrap();
    drop(db);
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::rename(&old, &current).unwrap();
    let told = told_until_ready(&folder);
    assert!(told.iter().filter(is_extension).count() > n_told, "{told:?}");
}
