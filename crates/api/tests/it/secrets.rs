//! Section 1: the secret, from a variable or a file.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::sync::Arc;

use rustix::process::geteuid;

use crate::process::run;
use crate::test_app::{EXAMPLE, SECRET, TestApp, UNSET, hookkeeper, skipped};

/// A user who owns nothing.
const NOBODY: u32 = 65_534;

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
