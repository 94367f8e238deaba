//! Every 200 outlives the process that gave it: ended politely or killed, under load.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use adapters::sqlite;
use rusqlite::Connection as Database;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::test_app::{TestApp, payload, skipped, webhook};

const SENDERS: usize = 16;

const LOAD: Load = Load { run: 0, padding: 0, answers: 500 };

/// Load of many connections.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Part of each id, so that another run has others.
    pub(crate) run: usize,
    /// Bytes that each message has beside the usual ones.
    pub(crate) padding: usize,
    /// Answers after which the load is on.
    pub(crate) answers: usize,
}

/// Sends until each connection fails or is refused; returns the ids answered 200. `at` is called once, when
/// the load is on.
pub(crate) fn send_until_it_ends(app: &TestApp, load: Load, at: impl FnOnce() + Send) -> BTreeSet<String> {
    let Load { run, padding, answers } = load;
    let padding = "x".repeat(padding);
    let acknowledged = Mutex::new(BTreeSet::new());
    let at = Mutex::new(Some(at));
    // All of them before the first sends: it may be the end of the service.
    let connections: Vec<_> = (0..SENDERS).map(|_| app.connect()).collect();
    thread::scope(|scope| {
        for (sender, mut connection) in connections.into_iter().enumerate() {
            let (acknowledged, at, padding) = (&acknowledged, &at, &padding);
            scope.spawn(move || {
                for n in 0.. {
                    let id = format!("{run}-{sender}-{n}");
                    let body = payload(&json!({"message_id": id, "padding": padding})).to_string();
                    connection.send(&webhook(body.as_bytes()));
                    match connection.answer(true) {
                        Some(answer) if answer.status == 200 => {}
                        // Told to go away, or the end of the connection.
                        _ => return,
                    }
                    let mut acknowledged = acknowledged.lock().unwrap();
                    acknowledged.insert(id);
                    if acknowledged.len() == answers {
                        at.lock().unwrap().take().unwrap()();
                    }
                }
            });
        }
    });
    acknowledged.into_inner().unwrap()
}

/// The ids of all messages in the database.
pub(crate) fn stored(app: &TestApp) -> Vec<String> {
    let database = Database::open(app.database()).unwrap();
    let mut statement = database.prepare("SELECT message_id FROM messages").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// Every acknowledged id is there once, and the check finds nothing wrong.
pub(crate) fn check(app: &TestApp, acknowledged: &BTreeSet<String>) {
    let stored = stored(app);
    let distinct: BTreeSet<String> = stored.iter().cloned().collect();
    assert_eq!(distinct.len(), stored.len(), "doubled");
    let lost: Vec<&String> = acknowledged.difference(&distinct).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    // A message whose answer was cut off may be there: one a sender and run at most.
    assert!(distinct.len() - acknowledged.len() <= SENDERS * 5, "invented");
    let report = sqlite::check(&app.database()).unwrap();
    assert!(report.is_ok() && report.messages == stored.len() as u64, "{report}");
}

#[test]
fn sigterm_under_load_loses_nothing_that_was_answered_200() {
    let mut app = TestApp::start();
    let acknowledged = send_until_it_ends(&app, LOAD, || app.signal(Signal::TERM));
    let (status, _) = app.end();
    assert_eq!(status.code(), Some(0));
    assert!(acknowledged.len() >= 500);
    check(&app, &acknowledged);
}

#[test]
fn kill_9_under_load_loses_nothing_that_was_answered_200() {
    let mut app = TestApp::start();
    let mut acknowledged = BTreeSet::new();
    for run in 0..5 {
        acknowledged.extend(send_until_it_ends(&app, Load { run, ..LOAD }, || app.signal(Signal::KILL)));
        app.end();
        app = TestApp::on(app.folder(), &[]);
        assert!(app.total() >= acknowledged.len() as u64);
        check(&app, &acknowledged);
    }
    assert!(acknowledged.len() >= 2500);
}

const FLUSHES_AND_WRITES: &str = "trace=fdatasync,fsync,write,writev,sendto,sendmsg,exit_group";

/// Returns true if system calls can be traced here, and reports if not.
pub(crate) fn can_trace() -> bool {
    let can = Command::new("strace").args(["-qq", "true"]).output().is_ok_and(|o| o.status.success());
    if !can {
        skipped("strace is not installed, or may not trace here");
    }
    can
}

/// Runs the service with its system calls written to `file`. -D: it stays our own child.
fn traced(file: &str, more: &[&str], folder: Arc<TempDir>) -> TestApp {
    let strace = ["strace", "-D", "-f", "-y", "-qq", "-s", "400", "-o", file, "-e", FLUSHES_AND_WRITES];
    TestApp::under(&[&strace[..], more].concat(), folder)
}

/// Stops it and reads what was traced.
fn end_trace(mut app: TestApp, file: &str) -> String {
    app.signal(Signal::TERM);
    app.end();
    // strace ends, and with it the file, a moment after the process.
    let deadline = Instant::now() + Duration::from_secs(10);
    let path = app.folder().path().join(file);
    loop {
        let trace = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        if trace.contains("exit_group(0") {
            return trace;
        }
        assert!(Instant::now() < deadline, "{trace}");
        thread::yield_now();
    }
}

/// Returns true if a flush of the write-ahead log has ended within these lines of a trace.
fn has_flush(calls: &[&str]) -> bool {
    let is_flush = |line: &&str| {
        (line.contains("fdatasync(") || line.contains("fsync(")) && line.contains("app.db-wal>")
    };
    let Some(begun) = calls.iter().rposition(is_flush) else {
        return false;
    };
    // It ends on its own line or, if another thread came between, on one that says "resumed".
    let thread_of = |line: &str| line.split(' ').next().unwrap().to_owned();
    let ended = |line: &&str| {
        thread_of(line) == thread_of(calls[begun])
            && line.contains("sync")
            && line.trim_end().ends_with("= 0")
    };
    calls[begun..].iter().any(ended)
}

/// Goal: the flush comes before the answer. Method: read the system calls of the whole process.
#[test]
fn the_log_is_flushed_before_the_answer_is_written() {
    if !can_trace() {
        return;
    }
    let app = traced("trace", &[], Arc::new(tempfile::tempdir().unwrap()));
    app.store(&json!({}));
    let trace = end_trace(app, "trace");
    let started = trace.find("listening").expect("the start");
    let answer = trace.find("x-webhook-result: created").expect("the answer");
    let calls: Vec<&str> = trace[started..answer].lines().collect();
    assert!(has_flush(&calls), "{}", calls.join("\n"));
}

/// Goal: what a crash left in the log, seen but perhaps never flushed, is on disk before anybody is told that
/// it is a duplicate. Method: kill the process in the flush of a commit, start it again, and look for the flush.
#[test]
fn what_a_crash_left_unflushed_is_flushed_before_it_is_a_duplicate() {
    if !can_trace() {
        return;
    }
    let folder = Arc::new(tempfile::tempdir().unwrap());
    // The thirtieth of one thread: the start needs fewer, so that it is a commit's.
    let mut app = traced("first", &["-e", "inject=fdatasync:signal=KILL:when=30"], Arc::clone(&folder));
    let last = (0..60).find(|n| {
        let mut connection = app.connect();
        connection.send(&webhook(payload(&json!({"message_id": n.to_string()})).to_string().as_bytes()));
        connection.answer(true).is_none()
    });
    let last = last.expect("it was killed").to_string();
    app.end();

    let app = traced("second", &[], folder);
    let answer = app.receive_with(&json!({"message_id": last}));
    assert_eq!(answer.headers["x-webhook-result"], "duplicate", "the kernel still had it");
    let trace = end_trace(app, "second");
    let answer = trace.find("x-webhook-result: duplicate").expect("the answer");
    let calls: Vec<&str> = trace[..answer].lines().collect();
    assert!(has_flush(&calls), "{}", calls.join("\n"));
}
