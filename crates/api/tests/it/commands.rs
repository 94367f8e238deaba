//! The other commands, as a shell runs them.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::test_app::{EXAMPLE, EXAMPLE_SIGNATURE, SECRET, TestApp, hookkeeper};

/// Runs a command with the secret and this standard input.
pub(crate) fn run(folder: &Path, arguments: &[&str], stdin: &[u8]) -> Output {
    let mut child = hookkeeper(folder)
        .args(arguments)
        .env("WEBHOOK_SECRET", SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn version_says_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["--version"], b"");
    let said = String::from_utf8(output.stdout).unwrap();
    let version = concat!("hookkeeper ", env!("CARGO_PKG_VERSION"), " (");
    assert!(said.starts_with(version) && said.trim_end().ends_with(')'), "{said}");
}

#[test]
fn help_names_every_setting_and_command() {
    let folder = tempfile::tempdir().unwrap();
    let help = |arguments: &[&str]| String::from_utf8(run(folder.path(), arguments, b"").stdout).unwrap();
    let main = help(&["--help"]);
    for word in [
        "serve",
        "migrate",
        "backup",
        "restore",
        "check",
        "export",
        "selftest",
        "healthcheck",
        "sign",
        "send",
        "version",
        "completions",
        "man",
    ] {
        assert!(main.contains(word), "{main}");
    }
    let serve = help(&["serve", "--help"]);
    for variable in ["DATABASE_URL", "WEBHOOK_SECRET", "LOG_LEVEL", "BIND_ADDR", "BODY_BYTES_MAX"] {
        assert!(serve.contains(variable), "{serve}");
    }
}

#[test]
fn migrate_makes_the_database_and_is_done_the_second_time() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let output = run(folder.path(), &["migrate", "--database-url", "sqlite:///x/y.db"], b"");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "x/y.db has schema version 7\n");
    }
    assert!(folder.path().join("x/y.db").exists());
}

#[test]
fn healthcheck_tells_by_its_exit_code_whether_the_service_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let check = |addr: &str| run(folder.path(), &["healthcheck", "--bind-addr", addr], b"").status.code();
    let app = TestApp::start();
    assert_eq!(check(&app.addr.to_string()), Some(0));
    // As in an image, where the service listens on every address.
    assert_eq!(check(&format!("0.0.0.0:{}", app.addr.port())), Some(0));
    let not_ready = TestApp::with(&[("WEBHOOK_SECRET", "")]);
    assert_eq!(check(&not_ready.addr.to_string()), Some(1));
    let gone = app.addr.to_string();
    app.stop();
    assert_eq!(check(&gone), Some(1));
    assert_eq!(check("nowhere"), Some(2));
}

#[test]
fn sign_prints_the_header_for_a_file_or_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("body.json"), EXAMPLE).unwrap();
    let want = format!("X-Signature: {EXAMPLE_SIGNATURE}\n");
    for (arguments, stdin) in
        [(&["sign"][..], EXAMPLE), (&["sign", "-"], EXAMPLE), (&["sign", "body.json"], b"")]
    {
        let output = run(folder.path(), arguments, stdin);
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stdout).unwrap()),
            (Some(0), want.clone())
        );
    }
    let missing = run(folder.path(), &["sign", "nowhere.json"], b"");
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("nowhere.json"));
    let output = hookkeeper(folder.path()).args(["sign"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("WEBHOOK_SECRET"));
}

/// Returns the output of a command with --json.
fn json_of(folder: &Path, arguments: &[&str], code: i32) -> Value {
    let output = run(folder, &[arguments, &["--json"]].concat(), b"");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn results_are_json_for_who_asks() {
    let app = TestApp::start();
    let folder = app.folder();
    let folder = folder.path();
    let url = format!("http://{}/webhook", app.addr);
    let send =
        |to| json_of(folder, &["send", "--url", &url, "--from", "+1", "--to", to], i32::from(to == "2"));
    let sent = send("+2");
    assert_eq!((&sent["sent"], &sent["created"], &sent["refusals"]), (&json!(1), &json!(1), &json!({})));
    assert!(sent["latency_p99_ms"].as_f64().unwrap() > 0.0, "{sent}");
    let refused = send("2");
    assert_eq!(
        (&refused["refused"], refused["refusals"].as_object().unwrap().len()),
        (&json!(1), 1),
        "{refused}"
    );

    let version = json_of(folder, &["version"], 0);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["commit"].is_string() && version["schema_version"].is_number(), "{version}");
    let report = json!({
        "ok": true, "messages": 1, "senders": 1, "schema_version": version["schema_version"], "problems": [],
    });
    assert_eq!(json_of(folder, &["check"], 0), report);
    let mut backup = report;
    backup["path"] = "backup.db".into();
    assert_eq!(json_of(folder, &["backup", "backup.db"], 0), backup);
    std::fs::write(folder.join("other.db"), "").unwrap();
    let other = json_of(folder, &["check", "--database-url", "sqlite:///other.db"], 1);
    assert_eq!((&other["ok"], other["problems"].as_array().unwrap().len()), (&json!(false), 1), "{other}");
    let tested = json_of(folder, &["selftest", ".", "--kills", "1", "--seed", "7"], 0);
    assert_eq!((&tested["kills"], &tested["seed"]), (&json!(1), &json!(7)));
    assert!(tested["broken_promises"].as_object().unwrap().is_empty(), "{tested}");
}

#[test]
fn completions_and_manual_are_made_of_the_help() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(folder.path(), &["completions", shell], b"");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("hookkeeper") && script.contains("ca-file"), "{shell}: {script}");
    }
    let output = run(folder.path(), &["man", "."], b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(page("hookkeeper.1").contains("durable inbox"));
    assert!(page("hookkeeper-send.1").contains("ca\\-file"));
    assert_eq!(run(folder.path(), &["man", "nowhere"], b"").status.code(), Some(1));
}
