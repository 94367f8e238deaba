//! Section 8: odds and ends of HTTP.

use std::io::{Read, Write};
use std::net::Shutdown;

use serde_json::json;

use crate::test_app::{EXAMPLE, TestApp, request, sign, webhook};

#[test]
fn an_unknown_path_is_404() {
    let app = TestApp::start();
    for target in [
        "/",
        "/webhook/",
        "/Webhook",
        "/messages/1",
        "/health",
        "//stats",
        "/stats%2f",
        "/%00",
        "/%ff",
        "/../stats",
    ] {
        let answer = app.get(target);
        assert_eq!((answer.status, answer.json()), (404, json!({"detail": "Not Found"})), "{target}");
        assert_eq!(answer.headers["content-type"], "application/json");
    }
}

#[test]
fn a_wrong_method_is_405_and_says_which_are_right() {
    let app = TestApp::start();
    let reads = ["/messages", "/stats", "/health/live", "/health/ready", "/metrics", "/openapi.json"];
    for (path, methods, allow) in reads
        .map(|path| (path, ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"], "GET, HEAD"))
        .into_iter()
        .chain([("/webhook", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD"], "POST")])
    {
        for method in methods {
            let mut connection = app.connect();
            connection.send(&request(method, path, &[], b""));
            let answer = connection.answer(method != "HEAD").unwrap();
            assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, allow), "{method} {path}");
            if method != "HEAD" {
                assert_eq!(answer.json(), json!({"detail": "Method Not Allowed"}));
            }
        }
    }
}

#[test]
fn head_is_get_without_a_body() {
    let app = TestApp::start();
    for path in ["/messages", "/stats", "/health/live", "/health/ready", "/openapi.json"] {
        let get = app.get(path);
        let mut connection = app.connect();
        connection.send(&request("HEAD", path, &[], b""));
        let head = connection.answer(false).unwrap();
        assert_eq!(
            (head.status, &head.headers["content-length"]),
            (200, &get.headers["content-length"]),
            "{path}"
        );
        assert_eq!(connection.ask(&request("GET", "/health/live", &[], b"")).status, 200, "no body was sent");
    }
}

#[test]
fn a_connection_outlives_the_errors_of_its_requests() {
    let app = TestApp::start();
    let mut connection = app.connect();
    for (bytes, status) in [
        (request("GET", "/nowhere", &[], b""), 404),
        (request("DELETE", "/stats", &[], b""), 405),
        (request("GET", "/messages?limit=0", &[], b""), 422),
        (request("POST", "/webhook", &[], EXAMPLE), 401),
        (webhook(b"{}"), 422),
        (webhook(EXAMPLE), 200),
        (webhook(EXAMPLE), 200),
        (request("GET", "/stats", &[], b""), 200),
    ] {
        assert_eq!(connection.ask(&bytes).status, status);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let app = TestApp::start();
    let mut connection = app.connect();
    let mut bytes = Vec::new();
    for _ in 0..10 {
        bytes.extend(webhook(EXAMPLE));
        bytes.extend(request("GET", "/nowhere", &[], b""));
    }
    connection.send(&bytes);
    let statuses: Vec<u16> = (0..20).map(|_| connection.answer(true).unwrap().status).collect();
    assert_eq!(statuses, [200, 404].repeat(10));
}

#[test]
fn expect_100_continue_is_obeyed() {
    let app = TestApp::start();
    let mut connection = app.connect();
    let signature = sign(EXAMPLE);
    let headers: [(&str, &[u8]); 2] = [("X-Signature", signature.as_bytes()), ("Expect", b"100-continue")];
    let bytes = request("POST", "/webhook", &headers, EXAMPLE);
    let (head, body) = bytes.split_at(bytes.len() - EXAMPLE.len());
    connection.send(head);
    let mut interim = [0; 25];
    connection.stream().read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(connection.ask(body).status, 200);
}

/// Any bytes get a clean 4xx, or the connection is closed: never a 5xx, never a hang, and the service
/// goes on.
#[test]
fn any_bytes_get_a_clean_answer() {
    let app = TestApp::start();
    let long_line = [b"GET /", "x".repeat(1 << 20).as_bytes(), b" HTTP/1.1\r\n\r\n"].concat();
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    let cases: &[&[u8]] = &[
        b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /stats HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"GET /stats HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nabcde",
        b"POST /webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"POST /webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
        b"POST /webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"GET http://[::1/stats HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /messages?%zz=%&from=%f HTTP/1.1\r\nHost: a\r\n\r\n",
        &long_line,
        many_headers.as_bytes(),
    ];
    for bytes in cases {
        let connection = app.connect();
        let mut stream = connection.stream();
        // It may refuse and close before it has read all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let shown = String::from_utf8_lossy(bytes);
        if !answer.is_empty() {
            let status = std::str::from_utf8(&answer[9..12]).unwrap_or_else(|e| panic!("{e}: {shown:.80}"));
            assert!(status.starts_with('4') || status == "200", "{shown:.80}: {status}");
        }
    }
    assert_eq!(app.get("/health/ready").status, 200);
    assert_eq!(app.total(), 0);
}

/// Two hundred connections that post at the same time: no 5xx, nothing lost, nothing doubled.
#[test]
fn two_hundred_connections_at_once_are_all_served() {
    let app = TestApp::start();
    std::thread::scope(|scope| {
        for c in 0..200 {
            let app = &app;
            scope.spawn(move || {
                let mut connection = app.connect();
                for n in 0..20 {
                    let body = String::from_utf8_lossy(EXAMPLE).replace("m1", &format!("{c}-{n}"));
                    assert_eq!(connection.ask(&webhook(body.as_bytes())).status, 200);
                }
            });
        }
    });
    assert_eq!(app.total(), 4000);
    assert_eq!(app.metric("webhook_requests_total{result=\"created\"}"), 4000.0);
    let commits = app.metric("hookkeeper_commit_batch_messages_count");
    assert!(commits < 4000.0, "{commits} commits: appends that wait are committed together");
}
