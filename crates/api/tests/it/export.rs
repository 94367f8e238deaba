//! `hookkeeper export`: all messages of one moment as NDJSON.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::test_app::{SECRET, TestApp, hookkeeper, payload};

fn export(folder: &Path, arguments: &[&str]) -> Output {
    hookkeeper(folder).arg("export").args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(output: &Output) -> Vec<String> {
    lines(output).iter().map(|line| line["message_id"].as_str().unwrap().to_owned()).collect()
}

/// Sends these lines with the command that is made for it.
fn send_lines(app: &TestApp, lines: &[u8]) {
    let mut send = hookkeeper(app.folder().path())
        .args(["send", "-", "--concurrency", "64", "--url", &format!("http://{}/webhook", app.addr)])
        .env("WEBHOOK_SECRET", SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    send.stdin.take().unwrap().write_all(lines).unwrap();
    assert!(send.wait().unwrap().success());
}

/// `n` messages that are larger than a pipe, together.
fn many(n: usize) -> Vec<u8> {
    let line =
        |n| payload(&json!({"message_id": format!("{n}"), "text": "x".repeat(1000)})).to_string() + "\n";
    (0..n).map(line).collect::<String>().into_bytes()
}

#[test]
fn what_was_exported_can_be_sent_again() {
    let app = TestApp::start();
    // In order of arrival, not of time.
    app.store(&json!({"message_id": "1", "ts": "2025-01-15T10:00:00.123456789Z", "text": "é\n\"\u{2028}"}));
    app.store(&json!({"message_id": "2", "ts": "2024-01-15T10:00:00Z", "text": null}));
    app.store(&json!({"message_id": "3", "text": ""}));
    let exported = export(app.folder().path(), &[]);
    assert_eq!(ids(&exported), ["1", "2", "3"]);
    let mut listed = app.get("/messages").json()["data"].as_array().unwrap().clone();
    listed.sort_by_key(|message| message["message_id"].to_string());
    assert_eq!(lines(&exported), listed, "the same five fields as in a listing");

    let other = TestApp::start();
    send_lines(&other, &exported.stdout);
    assert_eq!(other.get("/messages").json(), app.get("/messages").json());
    app.stop();
}

#[test]
fn export_has_the_filters_of_a_listing() {
    let app = TestApp::start();
    for (id, from, hour, text) in
        [("1", "+1", 10, "École 100%"), ("2", "+1", 11, "-5"), ("3", "+2", 12, "école")]
    {
        let ts = format!("2025-01-15T{hour}:00:00Z");
        app.store(&json!({"message_id": id, "from": from, "ts": ts, "text": text}));
    }
    for (arguments, want) in [
        (&["--from", "+1"][..], &["1", "2"][..]),
        (&["--from", "+3"], &[]),
        (&["--since", "2025-01-15T11:00:00Z"], &["2", "3"]),
        (&["--since", "2025-01-15T16:30:00+05:30"], &["2", "3"]),
        (&["--q", "ÉCOLE"], &["1", "3"]),
        (&["--q", "%"], &["1"]),
        (&["--q", "-5"], &["2"]),
        (&["--from", "+1", "--since", "2025-01-15T10:00:00Z", "--q", "école"], &["1"]),
        (&["--from", "", "--q", ""], &["1", "2", "3"]),
    ] {
        assert_eq!(ids(&export(app.folder().path(), arguments)), want, "{arguments:?}");
    }
    assert_eq!(export(app.folder().path(), &["--since", "yesterday"]).status.code(), Some(2));
}

/// Method: more messages than a pipe holds, of which one is read before others come in.
#[test]
fn an_export_is_of_one_moment_while_the_server_goes_on() {
    let app = TestApp::start();
    send_lines(&app, &many(500));
    let mut child = hookkeeper(app.folder().path()).arg("export").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    app.store(&json!({"message_id": "later"}));
    let rest: Vec<String> = lines.collect::<Result<_, _>>().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(rest.len(), 499);
    assert!(rest.iter().all(|line| !line.contains("later")));
    assert_eq!(ids(&export(app.folder().path(), &[])).len(), 501);
}

#[test]
fn an_export_that_is_not_whole_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = export(folder.path(), &["--database-url", "sqlite:///nowhere.db"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nowhere.db"));
    assert!(!folder.path().join("nowhere.db").exists());

    rusqlite::Connection::open(folder.path().join("other.db"))
        .unwrap()
        .execute("CREATE TABLE t (x)", [])
        .unwrap();
    let output = export(folder.path(), &["--database-url", "sqlite:///other.db"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not a database of hookkeeper"));

    let app = TestApp::start();
    send_lines(&app, &many(20));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = hookkeeper(app.folder().path()).arg("export").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("No space left"));
}
