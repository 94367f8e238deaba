//! The command `send`, as a shell runs it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

use crate::commands::run;
use crate::test_app::{SECRET, TestApp, hookkeeper, payload};

fn send(app: &TestApp, arguments: &[&str], stdin: &[u8]) -> (Option<i32>, String, String) {
    let url = format!("http://{}/webhook", app.addr);
    let folder = app.folder();
    let output = run(folder.path(), &[&["send", "--url", &url], arguments].concat(), stdin);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn send_signs_and_sends_one_message() {
    let app = TestApp::start();
    let one =
        ["--from", "+1", "--to", "+2", "--text", "Hi", "--message-id", "x", "--ts", "2025-01-15T10:00:00Z"];
    let (code, said, _) = send(&app, &one, b"");
    assert_eq!(code, Some(0));
    assert!(said.contains("created 1, duplicate 0, refused 0"), "{said}");
    let want =
        json!({"message_id": "x", "from": "+1", "to": "+2", "ts": "2025-01-15T10:00:00Z", "text": "Hi"});
    assert_eq!(app.get("/messages").json()["data"], json!([want]));
    let (_, said, _) = send(&app, &one, b"");
    assert!(said.contains("created 0, duplicate 1, refused 0"), "{said}");
    // Without an id and a time it makes them.
    assert_eq!(send(&app, &["--from", "+1", "--to", "+2"], b"").0, Some(0));
    assert_eq!(app.total(), 2);
}

#[test]
fn send_takes_a_json_file_json_lines_and_standard_input() {
    let app = TestApp::start();
    let folder = app.folder();
    // Pretty-printed: its bytes are sent as they are.
    let pretty = serde_json::to_string_pretty(&payload(&json!({"message_id": "file"}))).unwrap();
    std::fs::write(folder.path().join("one.json"), pretty).unwrap();
    let (code, said, _) = send(&app, &["one.json"], b"");
    assert_eq!((code, said.contains("created 1, duplicate 0, refused 0")), (Some(0), true), "{said}");

    let line = |n: usize| payload(&json!({"message_id": format!("line {n}")})).to_string() + "\n";
    let lines: String = (0..100).map(line).collect();
    std::fs::write(folder.path().join("many.jsonl"), format!("\n{lines}\r\n{}", line(0).trim_end())).unwrap();
    let (code, said, _) = send(&app, &["many.jsonl", "--concurrency", "16"], b"");
    assert_eq!((code, said.contains("created 100, duplicate 1, refused 0")), (Some(0), true), "{said}");
    assert!(said.contains("p50") && said.contains("p99"), "{said}");

    let (code, said, _) = send(&app, &["-"], lines.as_bytes());
    assert_eq!((code, said.contains("created 0, duplicate 100, refused 0")), (Some(0), true), "{said}");
    assert_eq!(app.total(), 101);
}

#[test]
fn send_fails_if_anything_was_refused_and_says_why() {
    let app = TestApp::start();
    let lines = [payload(&json!({})).to_string(), "{}".to_owned(), "nonsense".to_owned()].join("\n");
    let (code, said, why) = send(&app, &["-"], lines.as_bytes());
    assert_eq!(code, Some(1));
    assert!(said.contains("created 1, duplicate 0, refused 2"), "{said}");
    assert!(why.contains("422") && why.contains("json_invalid"), "{why}");
    assert_eq!(send(&app, &["nowhere.jsonl"], b"").0, Some(1));
    assert_eq!(send(&app, &[], b"").0, Some(2), "nothing to send");
    assert_eq!(send(&app, &["--from", "+1"], b"").0, Some(2), "no recipient");
}

#[test]
fn send_to_nobody_is_refused_and_not_a_hang() {
    let app = TestApp::start();
    let folder = app.folder();
    let url = format!("http://{}/webhook", app.addr);
    app.stop();
    let output = run(folder.path(), &["send", "--url", &url, "--from", "+1", "--to", "+2"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no answer"));
}

#[test]
fn send_reads_a_pipe_as_a_stream() {
    let app = TestApp::start();
    let line = |id: &str| payload(&json!({"message_id": id})).to_string() + "\n";
    let (code, said, why) = send(&app, &["/dev/stdin"], (line("1") + &line("2")).as_bytes());
    assert_eq!((code, said.contains("created 2, duplicate 0, refused 0")), (Some(0), true), "{said}{why}");

    let folder = app.folder();
    for (name, id) in [("pipe.jsonl", "3"), ("pipe.json", "4")] {
        let pipe = folder.path().join(name);
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let body = line(id);
        // It waits for the reader, and what it wrote is gone once it was read.
        let writer = std::thread::spawn(move || std::fs::write(pipe, body));
        let (code, said, why) = send(&app, &[name], b"");
        assert_eq!(
            (code, said.contains("created 1, duplicate 0, refused 0")),
            (Some(0), true),
            "{said}{why}"
        );
        writer.join().unwrap().unwrap();
    }
    assert_eq!(app.total(), 4);
}

#[test]
fn send_stops_at_the_first_refusals_if_its_secret_is_another_one() {
    let app = TestApp::with(&[("WEBHOOK_SECRET", "another")]);
    let lines: String = (0..100).map(|_| payload(&json!({})).to_string() + "\n").collect();
    let (code, said, why) = send(&app, &["-"], lines.as_bytes());
    assert_eq!(code, Some(1), "{said}");
    assert!(why.contains("another WEBHOOK_SECRET"), "{why}");
    let refused = app.metric("webhook_requests_total{result=\"invalid_signature\"}");
    assert!((1.0..=8.0).contains(&refused), "one for each connection at most: {refused}");
}

#[test]
fn send_takes_a_text_that_begins_with_a_hyphen() {
    let app = TestApp::start();
    let (code, _, why) =
        send(&app, &["--from", "+1", "--to", "+2", "--text", "-5 degrees", "--message-id", "-1"], b"");
    assert_eq!(code, Some(0), "{why}");
    let message = &app.get("/messages").json()["data"][0];
    assert_eq!((&message["text"], &message["message_id"]), (&json!("-5 degrees"), &json!("-1")));
}

/// Sends one message to a URL, with these variables.
fn send_to(url: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = hookkeeper(folder.path())
        .args(["send", "--from", "+1", "--to", "+2", "--url", url])
        .args(arguments)
        .env("WEBHOOK_SECRET", SECRET)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A server of the test's own, which answers a request line with what `answer` makes of it.
fn answering(answer: fn(&str) -> String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut target = String::new();
            // Whoever hangs up here is not answered.
            let _ = reader.read_line(&mut target);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let _ = (&stream).write_all(answer(&target).as_bytes());
        }
    });
    addr
}

/// A server's answer goes to a terminal, and nobody has vouched for that server.
#[test]
fn what_a_server_says_is_printed_without_what_a_terminal_would_act_on() {
    let addr = answering(|_| {
        let body = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}no\n  7 × 200".to_owned() + &"x".repeat(100_000);
        format!("HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let folder = tempfile::tempdir().unwrap();
    let (_, _, sent) = send_to(&format!("http://{addr}/webhook"), &[], &[]);
    let health = run(folder.path(), &["healthcheck", "--bind-addr", &addr.to_string()], b"");
    for said in [sent, String::from_utf8(health.stderr).unwrap()] {
        assert!(said.contains(r"\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}no\u{a}  7"), "{said}");
        assert!(!said.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{said}");
        assert!(said.len() < 2000, "{}", said.len());
    }
}

/// Method: a server that redirects to its login page, which is 200 to all who ask.
#[test]
fn send_counts_only_what_says_that_it_stored_the_message() {
    let addr = answering(|target| {
        if target.contains(" /login ") {
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 13\r\n\r\n<p>Log in</p>".to_owned()
        } else {
            "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"
                .to_owned()
        }
    });
    for (path, reason) in [("webhook", "302 to \"/login\""), ("login", "200 without X-Webhook-Result")] {
        let (code, said, why) = send_to(&format!("http://{addr}/{path}"), &[], &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("created 0, duplicate 0, refused 1"), "{said}");
        assert!(why.contains(reason), "{why}");
    }
}

#[test]
fn send_refuses_a_url_without_scheme_at_once() {
    for url in
        ["127.0.0.1:8000", "127.0.0.1:8000/webhook", "localhost:8000", "ftp://localhost/", "http://", ""]
    {
        let (code, said, why) = send_to(url, &[], &[]);
        assert_eq!((code, said.as_str()), (Some(2), ""), "{url}: {why}");
        assert!(why.contains("--url") && why.contains("must start with http:// or https://"), "{url}: {why}");
    }
}

#[test]
fn send_goes_past_a_proxy_on_the_way_to_this_machine() {
    let app = TestApp::start();
    let nobody = "http://127.0.0.1:1";
    let proxies =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, nobody));
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{}/webhook", app.addr.port());
        let (code, said, why) = send_to(&url, &[], &proxies);
        assert_eq!(code, Some(0), "{host}: {said}{why}");
    }
    assert_eq!(app.total(), 2);
}

#[test]
fn send_trusts_the_authority_that_it_is_given() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert_path, key_path) = (path("cert.pem"), path("key.pem"));
    std::fs::write(&cert_path, cert.pem()).unwrap();
    std::fs::write(&key_path, signing_key.serialize_pem()).unwrap();
    let app = TestApp::on(Arc::clone(&folder), &[("TLS_CERT", &cert_path), ("TLS_KEY", &key_path)]);
    let url = format!("https://localhost:{}/webhook", app.addr.port());

    let (code, said, why) = send_to(&url, &["--ca-file", &cert_path], &[]);
    assert_eq!((code, said.contains("created 1")), (Some(0), true), "{said}{why}");
    let (code, _, why) = send_to(&url, &[], &[]);
    assert_eq!((code, why.contains("--ca-file")), (Some(1), true), "{why}");
    for (file, reason) in [(&path("nowhere.pem"), "No such file"), (&key_path, "contains no PEM certificate")]
    {
        let (code, _, why) = send_to(&url, &["--ca-file", file], &[]);
        assert_eq!((code, why.contains(reason) && why.contains(file.as_str())), (Some(1), true), "{why}");
    }
}
