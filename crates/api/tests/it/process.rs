//! Section 1: the process, its configuration and its files.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::test_app::{
    Connection, EXAMPLE, SECRET, TestApp, UNSET, hookkeeper, request, skipped, wait_for, webhook,
};

/// A user who owns nothing.
const NOBODY: u32 = 65_534;

/// Runs the binary to its end.
fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
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

#[test]
fn the_secret_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let secret = [("WEBHOOK_SECRET", "hunter2-hunter2"), ("LOG_LEVEL", "x")];
    for arguments in
        [&["--help"][..], &["serve", "--help"], &["send", "--help"], &["sign", "--help"], &["serve"]]
    {
        let output = run(folder.path(), arguments, &secret);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!said.is_empty() && !said.contains("hunter2"), "{said}");
    }
    let app = TestApp::with(&[("WEBHOOK_SECRET", "hunter2-hunter2"), ("LOG_LEVEL", "debug")]);
    app.receive(EXAMPLE);
    app.get("/health/ready");
    assert!(app.stop().iter().all(|line| !line.contains("hunter2")));
}

#[test]
fn the_secret_may_be_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let file = file.to_str().unwrap();
    let app = TestApp::with(&[("WEBHOOK_SECRET", ""), ("WEBHOOK_SECRET_FILE", file)]);
    assert_eq!(app.receive(EXAMPLE).status, 200);
    // Both, or a file that is not there: which one was meant can't be known.
    for variables in [
        &[("WEBHOOK_SECRET", "x"), ("WEBHOOK_SECRET_FILE", file)][..],
        &[("WEBHOOK_SECRET_FILE", "/nowhere/secret")],
    ] {
        let output = run(folder.path(), &["serve"], variables);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains("WEBHOOK_SECRET_FILE"));
    }
}

/// Method: as another user, who may not read everything as root may.
#[test]
fn what_is_wrong_with_the_file_of_a_secret_is_told_by_file_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("line break"), "\r\n").unwrap();
    std::fs::write(path("large"), vec![b'x'; 65_537]).unwrap();
    std::fs::write(path("secret"), "hunter2").unwrap();
    std::fs::write(path("unreadable"), "hunter2").unwrap();
    std::fs::set_permissions(path("unreadable"), Permissions::from_mode(0o000)).unwrap();
    for (variables, told) in [
        (&[("WEBHOOK_SECRET_FILE", "missing")][..], "cannot read missing: No such file or directory"),
        (&[("WEBHOOK_SECRET_FILE", ".")], "cannot read .: Is a directory"),
        (&[("WEBHOOK_SECRET_FILE", "empty")], "empty is empty"),
        (&[("WEBHOOK_SECRET_FILE", "line break")], "line break is empty but for a line break"),
        (&[("WEBHOOK_SECRET_FILE", "large")], "large has more than 65536 bytes"),
        (&[("WEBHOOK_SECRET_FILE", "unreadable")], "cannot read unreadable: Permission denied"),
        (&[("API_TOKEN_FILE", "missing")], "cannot read missing: No such file or directory"),
        (
            &[("API_TOKEN_FILE", "secret"), ("API_TOKEN", "hunter2")],
            "set API_TOKEN or API_TOKEN_FILE, not both",
        ),
    ] {
        let mut command = hookkeeper(folder.path());
        command.envs(variables.iter().copied());
        if geteuid().is_root() {
            command.uid(NOBODY);
        }
        let output = match command.output() {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                return skipped("no other user may run the binary");
            }
            output => output.unwrap(),
        };
        let stderr = String::from_utf8(output.stderr).unwrap();
        let (variable, _) = variables[0];
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(variable) && stderr.contains(told), "{told}: {stderr}");
        assert!(!stderr.contains("hunter2") && !folder.path().join("data").exists(), "{stderr}");
        assert_eq!(told.contains("Permission denied"), stderr.contains("running as uid"), "{stderr}");
    }
}

/// HMAC fills a key up with NUL bytes: they alone are the empty key, which everybody has.
#[test]
fn a_secret_of_nul_bytes_is_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    for n in [1, 64, 65] {
        std::fs::write(&file, vec![0; n]).unwrap();
        let file = file.to_str().unwrap();
        let app = TestApp::with(&[("WEBHOOK_SECRET", UNSET), ("WEBHOOK_SECRET_FILE", file)]);
        assert_eq!(app.get("/health/ready").status, 503);
        assert_eq!(app.get("/health/live").status, 200);
        // HMAC-SHA-256 of the example with an empty key.
        let empty_key = b"d9aa5b953b622204e516e620ad188f54e76e47e76e0751857b2bb12cfb0129d6";
        assert_eq!(app.post(&[("X-Signature", empty_key)], EXAMPLE).status, 503);
        let warnings = app.stop().iter().filter(|line| line.contains("\"WARN\"")).count();
        assert_eq!(warnings, 1);
        let sign = run(folder.path(), &["sign", file], &[("WEBHOOK_SECRET_FILE", file)]);
        assert_eq!(sign.status.code(), Some(1));
    }
}

#[test]
fn a_secret_that_looks_like_a_mistake_is_warned_of_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let good = "7f9c24e8b3a1d0567f9c24e8b3a1d0567f9c24e8b3a1d056";
    for (secret, doubt) in [
        (good.to_owned(), None),
        ("changeme".to_owned(), Some("well known")),
        (good[..31].to_owned(), Some("fewer than 32 bytes")),
        (format!("{good} "), Some("white space")),
        (format!("\u{feff}{good}"), Some("byte order mark")),
        (good.chars().flat_map(|c| [c, '\0']).collect(), Some("UTF-16")),
    ] {
        std::fs::write(&file, &secret).unwrap();
        let lines =
            TestApp::with(&[("WEBHOOK_SECRET", UNSET), ("WEBHOOK_SECRET_FILE", file.to_str().unwrap())])
                .stop();
        let warnings: Vec<&String> = lines.iter().filter(|line| line.contains("\"WARN\"")).collect();
        match doubt {
            None => assert!(warnings.is_empty(), "{warnings:?}"),
            Some(doubt) => {
                assert!(warnings.len() == 1 && warnings[0].contains(doubt), "{doubt}: {warnings:?}");
                assert!(lines.iter().all(|line| !line.contains(secret.trim())), "{lines:?}");
            }
        }
    }
}

#[test]
fn an_unset_secret_is_as_good_as_an_empty_one() {
    let app = TestApp::with(&[("WEBHOOK_SECRET", UNSET)]);
    assert_eq!(app.receive(EXAMPLE).status, 503);
    let folder = app.folder();
    app.stop();
    assert_eq!(Arc::strong_count(&folder), 1);
    assert_eq!(TestApp::on(folder, &[]).receive(EXAMPLE).status, 200, "it works once there is one");
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
