//! Section 2: the size of a webhook's body, and the time in which it comes.

use std::io::Write;
use std::net::Shutdown;

use serde_json::json;

use crate::test_app::{EXAMPLE, EXAMPLE_SIGNATURE, TestApp, payload, request, sign, webhook};

const MEBIBYTE: usize = 1 << 20;

/// A valid payload of exactly this many bytes.
fn of_size(bytes: usize) -> Vec<u8> {
    let padded = |n: usize| payload(&json!({"padding": "x".repeat(n)})).to_string().into_bytes();
    padded(bytes - padded(0).len())
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(60_000) {
        write!(bytes, "{:x}\r\n", chunk.len()).unwrap();
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[test]
fn a_body_may_have_a_mebibyte_and_not_a_byte_more() {
    let app = TestApp::start();
    let too_large = json!({"detail": "request body is larger than 1048576 bytes"});
    for is_chunked in [false, true] {
        for (size, status) in [(MEBIBYTE, 200), (MEBIBYTE + 1, 413), (5 * MEBIBYTE, 413)] {
            let body = of_size(size);
            let signature = sign(&body);
            let mut headers = vec![("X-Signature", signature.as_bytes())];
            let framed = if is_chunked {
                headers.push(("Transfer-Encoding", b"chunked"));
                chunked(&body)
            } else {
                body
            };
            let answer = app.post(&headers, &framed);
            assert_eq!(answer.status, status, "{size} {is_chunked} {}", answer.body);
            if status == 413 {
                assert_eq!(answer.json(), too_large);
            }
        }
    }
    assert_eq!(app.metric("webhook_requests_total{result=\"too_large\"}"), 4.0);
    assert_eq!(app.total(), 1);
}

#[test]
fn the_limit_of_a_body_can_be_set() {
    let app = TestApp::with(&[("BODY_BYTES_MAX", "105")]);
    assert_eq!(app.receive(EXAMPLE).status, 200);
    assert_eq!(app.receive(&[EXAMPLE, b" "].concat()).status, 413);
}

/// Goal: what is refused for its size leaves no bytes behind that could be taken for a request.
#[test]
fn after_a_413_the_connection_is_usable_or_closed() {
    let app = TestApp::start();
    let smuggled = request("GET", "/stats", &[], b"");
    let mut body = vec![b'x'; MEBIBYTE + 1];
    body.extend_from_slice(&smuggled);
    for head in [("Content-Length", body.len().to_string()), ("Transfer-Encoding", "chunked".to_owned())] {
        let mut connection = app.connect();
        let mut bytes = format!(
            "POST /webhook HTTP/1.1\r\nHost: test\r\nX-Signature: {EXAMPLE_SIGNATURE}\r\n{}: {}\r\n\r\n",
            head.0, head.1
        )
        .into_bytes();
        bytes.extend(if head.1 == "chunked" { chunked(&body) } else { body.clone() });
        assert_eq!(connection.ask(&bytes).status, 413);
        connection.send(&request("GET", "/health/live", &[], b""));
        if let Some(next) = connection.answer(true) {
            assert_eq!(next.json(), json!({"status": "live"}), "the next request, not the rest of the body");
        }
    }
    assert_eq!(app.metric("http_requests_total{path=\"/stats\",status=\"200\"}"), 0.0);
}

/// Goal: what is being received can't fill the memory, whoever sends it. Method: more bodies than one
/// client has room for, each but for its last byte.
#[test]
fn bodies_that_never_end_are_refused_when_they_fill_their_memory() {
    let app = TestApp::start();
    let body = vec![b'x'; MEBIBYTE];
    let bytes = request("POST", "/webhook", &[("X-Signature", EXAMPLE_SIGNATURE.as_bytes())], &body);
    let mut connections: Vec<_> = (0..80).map(|_| app.connect()).collect();
    for connection in &mut connections {
        connection.send(&bytes[..bytes.len() - 1]);
    }
    let line = app.log_line(|line| line["status"] == 503);
    assert_eq!(
        (&line["result"], &line["error"]),
        (&json!("unavailable"), &json!("too many request bodies of one client at once"))
    );
    drop(connections);
    for _ in 0..80 {
        app.log_line(|line| line["path"] == "/webhook" || line["status"] == 503);
        if app.receive(EXAMPLE).status == 200 {
            return;
        }
    }
    panic!("it did not recover");
}

#[test]
fn a_body_that_breaks_off_is_not_received() {
    let app = TestApp::start();
    let mut connection = app.connect();
    connection.send(&webhook(EXAMPLE)[..200]);
    connection.stream().shutdown(Shutdown::Write).unwrap();
    if let Some(answer) = connection.answer(true) {
        assert_eq!(answer.status, 400);
    }
    let line = app.log_line(|line| line["path"] == "/webhook");
    assert_eq!((&line["result"], &line["message_id"]), (&json!("incomplete"), &json!(null)));
    assert_eq!(app.metric("webhook_requests_total{result=\"incomplete\"}"), 1.0);
    assert_eq!(app.total(), 0);
}

/// The one test that takes its time: the five seconds in which a small body has to come.
#[test]
fn a_body_that_does_not_arrive_in_time_is_408() {
    let app = TestApp::start();
    let mut connection = app.connect();
    connection.send(&webhook(EXAMPLE)[..200]);
    let answer = connection.answer(true).unwrap();
    assert_eq!(answer.status, 408);
    assert!(answer.json()["detail"].is_string());
    assert_eq!(app.total(), 0);
}
