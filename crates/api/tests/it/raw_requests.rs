//! Requests byte for byte as some client has sent them, and what each is answered. Those of `cases/` were found to
//! be answered wrongly, or not at all.

use std::io::Read;

use serde_json::json;

use crate::test_app::{Connection, EXAMPLE, EXAMPLE_SIGNATURE, TestApp, request, sign, webhook};

const CHUNK_SIZE_ZZ: &[u8] = include_bytes!("cases/chunk-size-zz.http");
const CHUNK_SIZE_LF: &[u8] = include_bytes!("cases/chunk-size-lf.http");
const CONNECTION_UPGRADE_ONLY: &[u8] = include_bytes!("cases/connection-upgrade-only.http");
const UPGRADE_WEBSOCKET: &[u8] = include_bytes!("cases/upgrade-websocket.http");
const EXPECT_TOO_LARGE: &[u8] = include_bytes!("cases/expect-too-large.http");
const Q_RAW_UTF8: &[u8] = include_bytes!("cases/q-raw-utf8.http");

/// The status of the very next answer, be it an interim one.
fn next_status(connection: &Connection) -> String {
    let mut line = [0; 12];
    connection.stream().read_exact(&mut line).unwrap();
    String::from_utf8_lossy(&line[9..]).into_owned()
}

fn is_alive(connection: &mut Connection) -> bool {
    connection.ask(&request("GET", "/health/live", &[], b"")).json() == json!({"status": "live"})
}

#[test]
fn a_body_in_wrong_chunks_is_a_400_that_is_sent() {
    let app = TestApp::start();
    let head = &CHUNK_SIZE_ZZ[..CHUNK_SIZE_ZZ.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4];
    let chunks = |chunks: &[u8]| [head, chunks].concat();
    for bytes in [
        CHUNK_SIZE_ZZ,
        CHUNK_SIZE_LF,
        &chunks(b"5\r\nhelloworld"),
        &chunks(b"5\r\nhello\r\n0\r\n\n"),
        &chunks(b"5;\x01\r\nhello\r\n0\r\n\r\n"),
        &chunks(b"11111111111111111\r\n"),
        &chunks(b"\r\n"),
    ] {
        let answer = app.ask(bytes);
        assert_eq!((answer.status, answer.json()), (400, json!({"detail": "request body is incomplete"})));
        let line = app.log_line(|line| line["path"] == "/webhook");
        assert_eq!(
            (&line["status"], &line["request_id"]),
            (&json!(400), &json!(answer.headers["x-request-id"]))
        );
    }
    // The same when it is found late.
    let mut connection = app.connect();
    connection.send(&chunks(b"5\r\nhello\r\n"));
    assert_eq!(connection.ask(b"zz\r\n").status, 400);
    assert_eq!(app.metric("webhook_requests_total{result=\"incomplete\"}"), 8.0);
    assert_eq!(app.total(), 0);
}

#[test]
fn an_upgrade_that_is_not_followed_is_ignored() {
    let app = TestApp::start();
    let to = |headers: &[(&str, &[u8])]| {
        let signature = sign(EXAMPLE);
        let headers = [headers, &[("X-Signature", signature.as_bytes())]].concat();
        request("POST", "/webhook", &headers, EXAMPLE)
    };
    for bytes in [
        CONNECTION_UPGRADE_ONLY,
        UPGRADE_WEBSOCKET,
        &to(&[
            ("Connection", b"Upgrade, HTTP2-Settings"),
            ("Upgrade", b"h2c"),
            ("HTTP2-Settings", b"AAMAAA"),
        ]),
        &to(&[("Upgrade", b"websocket")]),
        &to(&[("Connection", b"keep-alive"), ("Connection", b"UPGRADE"), ("Upgrade", b"TLS/1.2, websocket")]),
    ] {
        let mut connection = app.connect();
        let answer = connection.ask(bytes);
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!((answer.status, answer.headers.get("connection")), (200, None), "{shown}");
        assert!(is_alive(&mut connection), "{shown}");
    }
    let mut connection = app.connect();
    let question = b"GET /stats HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(connection.ask(question).status, 200);
    assert!(is_alive(&mut connection));
    let mut connection = app.connect();
    let closing = b"GET /stats HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\n\r\n";
    assert_eq!(connection.ask(closing).headers["connection"], "close");
}

#[test]
fn who_waits_with_a_body_is_answered_at_once_if_it_is_not_wanted() {
    let app = TestApp::start();
    let expect = |method: &str, target: &str, fields: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{fields}\r\n\r\n")
            .into_bytes()
    };
    let signed = format!("X-Signature: {EXAMPLE_SIGNATURE}\r\nContent-Length: 105");
    for (bytes, status) in [
        (EXPECT_TOO_LARGE.to_vec(), "413"),
        (expect("POST", "/webhook", "Content-Length: 105"), "401"),
        (expect("POST", "/webhook", "Transfer-Encoding: chunked"), "401"),
        (expect("POST", "/nowhere", &signed), "404"),
        (expect("PUT", "/webhook", &signed), "405"),
        (expect("GET", "/health/live", "Accept: */*"), "200"),
    ] {
        let mut connection = app.connect();
        connection.send(&bytes);
        assert_eq!(next_status(&connection), status, "{}", String::from_utf8_lossy(&bytes));
    }
    // It is told to go on only when it waits.
    let mut connection = app.connect();
    let head = expect("POST", "/webhook", &signed);
    connection.send(&[&head, EXAMPLE].concat());
    assert_eq!(next_status(&connection), "200");
    let mut connection = app.connect();
    connection.send(&head);
    assert_eq!(next_status(&connection), "100");
}

#[test]
fn what_people_type_into_a_query_is_understood() {
    let app = TestApp::start();
    app.store(&json!({"text": "à l'ÉCOLE <\"now\">"}));
    let answer = app.ask(Q_RAW_UTF8);
    assert_eq!((answer.status, &answer.json()["total"]), (200, &json!(1)));
    for q in ["\"now\"", "<\"", "l'école", "%C3%A9cole", "é%43ole"] {
        assert_eq!(app.get(&format!("/messages?q={q}")).json()["total"], 1, "{q}");
    }
    // In a row, and a path that is none of ours.
    let mut connection = app.connect();
    connection.send(&[Q_RAW_UTF8, Q_RAW_UTF8, &request("GET", "/école", &[], b""), Q_RAW_UTF8].concat());
    let statuses: Vec<_> = (0..4).map(|_| connection.answer(true).unwrap().status).collect();
    assert_eq!(statuses, [200, 200, 404, 200]);
    let line = app.log_line(|line| line["status"] == 404);
    assert_eq!(line["path"], "/%C3%A9cole");
}

/// Bytes that are no request are answered, logged and counted as requests are.
#[test]
fn what_is_no_request_is_told_so() {
    let app = TestApp::start();
    let long = [b"GET /", "x".repeat(100_000).as_bytes(), b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    let fields = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(100)).into_bytes();
    let cases = [
        (b"GARBAGE\r\n\r\n".to_vec(), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
        (b"GET /messages?q=a b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400),
        (
            b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".to_vec(),
            400,
        ),
        (b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n".to_vec(), 400),
        (b"GET http://[::1/stats HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400),
        (long, 431),
        (fields, 431),
    ];
    for (n, (bytes, status)) in cases.iter().enumerate() {
        // After another request, too.
        for first in [&[][..], &request("GET", "/health/live", &[], b"")] {
            let mut connection = app.connect();
            if !first.is_empty() {
                connection.ask(first);
            }
            let answer = connection.ask(bytes);
            assert_eq!(answer.status, *status, "{n}: {answer:?}");
            assert!(answer.json()["detail"].as_str().unwrap().contains("request"), "{answer:?}");
            assert_eq!(answer.headers["connection"], "close");
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
            let line = app.log_line(|line| line["path"] == "*");
            assert_eq!(
                (&line["request_id"], &line["status"], &line["method"]),
                (&json!(answer.headers["x-request-id"]), &json!(status), &json!("-"))
            );
            assert!(line["error"].is_string());
        }
    }
    assert_eq!(app.metric("http_requests_total{path=\"unknown\",status=\"400\"}"), 16.0);
    assert_eq!(app.metric("http_requests_total{path=\"unknown\",status=\"431\"}"), 4.0);
}

/// The largest head that is served, and a request behind it that is not lost.
#[test]
fn large_heads_are_served() {
    let app = TestApp::start();
    let q = "é".repeat(4096);
    app.store(&json!({"text": q}));
    let mut connection = app.connect();
    let large = request("GET", &format!("/messages?q={}", "%C3%A9".repeat(4096)), &[], b"");
    let padded = request("GET", "/stats", &[("X-Padding", "x".repeat(60_000).as_bytes())], b"");
    connection.send(&[&large[..], &padded, &webhook(EXAMPLE)].concat());
    assert_eq!(connection.answer(true).unwrap().json()["total"], 1);
    assert_eq!(connection.answer(true).unwrap().json()["total_messages"], 1);
    assert_eq!(connection.answer(true).unwrap().status, 200);
}
