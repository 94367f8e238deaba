//! One client takes all that it can, and the others are served as if it were not there.

use std::io::Read;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;
use serde_json::json;

use crate::door::renew;
use crate::test_app::{
    Connection, EXAMPLE, EXAMPLE_SIGNATURE, TestApp, hookkeeper, payload, request, webhook,
};

const MEBIBYTE: usize = 1 << 20;

/// A webhook that looks signed, all but the last byte of its body.
fn endless(body_bytes: usize) -> Vec<u8> {
    let signature = [("X-Signature", EXAMPLE_SIGNATURE.as_bytes())];
    let mut bytes = request("POST", "/webhook", &signature, &vec![b'x'; body_bytes]);
    bytes.pop();
    bytes
}

#[test]
fn a_missing_or_malformed_signature_is_refused_before_its_body_comes() {
    let app = TestApp::start();
    let twice = [EXAMPLE_SIGNATURE, EXAMPLE_SIGNATURE];
    for signatures in [&[][..], &[""], &["zz"], &[&EXAMPLE_SIGNATURE[..62]], &twice] {
        for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
            let mut head = format!("POST /webhook HTTP/1.1\r\nHost: test\r\n{framing}\r\n");
            for signature in signatures {
                head += &format!("X-Signature: {signature}\r\n");
            }
            head += "\r\n";
            let mut connection = app.connect();
            let answer = connection.ask(head.as_bytes());
            assert_eq!(
                (answer.status, answer.json()),
                (401, json!({"detail": "invalid signature"})),
                "{head}"
            );
            // What comes late is no request.
            let body = request("GET", "/stats", &[], b"").repeat(10);
            let late = if framing.starts_with('T') {
                [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
            } else {
                body
            };
            connection.send(&late);
            connection.send(&live());
            connection.stream().shutdown(Shutdown::Write).unwrap();
            if let Some(next) = connection.answer(true) {
                assert_eq!(next.json(), json!({"status": "live"}), "{head}");
            }
        }
    }
    assert_eq!(app.metric("http_requests_total{path=\"/stats\",status=\"200\"}"), 0.0);
    assert_eq!(app.metric("webhook_requests_total{result=\"invalid_signature\"}"), 10.0);
}

#[test]
fn without_a_secret_no_body_is_waited_for() {
    let app = TestApp::with(&[("WEBHOOK_SECRET", "")]);
    assert_eq!(app.connect().ask(&endless(MEBIBYTE)[..500]).status, 503);
}

/// Goal: bodies that do not end take nothing from others. Method: one client sends more of them than there is room
/// for altogether.
#[test]
fn one_client_does_not_take_the_memory_of_all_bodies() {
    let app = TestApp::start();
    let bytes = endless(MEBIBYTE);
    let mut held: Vec<_> = (0..70).map(|_| Connection::from(2, app.addr)).collect();
    for connection in &mut held {
        connection.send(&bytes);
    }
    let line = app.log_line(|line| line["status"] == 503);
    assert_eq!(line["error"], "too many request bodies of one client at once");
    let large = payload(&json!({"message_id": "large", "padding": "x".repeat(MEBIBYTE - 1000)})).to_string();
    for body in [EXAMPLE, large.as_bytes()] {
        assert_eq!(Connection::from(3, app.addr).ask(&webhook(body)).status, 200);
    }
}

/// Method: four clients take all that large bodies may take, and would take all there is; a fifth has a small one.
#[test]
fn memory_is_kept_for_small_bodies() {
    let app = TestApp::with(&[("BODY_BYTES_MAX", "16777216")]);
    let bytes = endless(16 * MEBIBYTE);
    let held: Vec<_> = std::thread::scope(|scope| {
        let hold = |host| {
            let mut connection = Connection::from(host, app.addr);
            connection.send(&bytes);
            connection
        };
        let held: Vec<_> = (10..14).map(|host| scope.spawn(move || hold(host))).collect();
        held.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let line = app.log_line(|line| line["status"] == 503);
    assert_eq!(line["error"], "too many request bodies at once");
    assert_eq!(Connection::from(3, app.addr).ask(&webhook(EXAMPLE)).status, 200);
    drop(held);
}

/// The share of a proxy's address is not divided among all who come through it.
#[test]
fn behind_a_proxy_the_share_is_that_of_the_forwarded_client() {
    let app = TestApp::with(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let of_client = |client: &str, body_bytes: usize| {
        let signature =
            [("X-Signature", EXAMPLE_SIGNATURE.as_bytes()), ("X-Forwarded-For", client.as_bytes())];
        request("POST", "/webhook", &signature, &vec![b'x'; body_bytes])
    };
    let bytes = of_client("203.0.113.9", MEBIBYTE);
    let mut held: Vec<_> = (0..17).map(|_| app.connect()).collect();
    for connection in &mut held {
        connection.send(&bytes[..bytes.len() - 1]);
    }
    app.log_line(|line| line["status"] == 503);
    assert_eq!(app.ask(&of_client("203.0.113.10", MEBIBYTE)).status, 401, "it is read to its end");
}

/// The end of a connection that was refused in the middle of a body comes by itself.
#[test]
fn what_was_refused_before_its_body_is_not_kept_open() {
    let app = TestApp::start();
    let mut connection = app.connect();
    let answer = connection.ask(&request("POST", "/webhook", &[], &vec![b'x'; MEBIBYTE])[..100]);
    assert_eq!((answer.status, answer.headers["connection"].as_str()), (401, "close"));
    assert_eq!(connection.stream().read(&mut [0]).unwrap_or(0), 0);
}

/// A connection that idles from now on: which of two that were never answered was there first, two workers do not agree on.
fn idle(client: u8, app: &TestApp) -> Connection {
    let mut connection = Connection::from(client, app.addr);
    assert_eq!(connection.ask(&live()).status, 200);
    connection
}

#[test]
fn a_client_with_its_share_of_connections_makes_room_for_itself_alone() {
    let app = TestApp::with(&[("CLIENT_CONNECTIONS_MAX", "50")]);
    let mut other = Connection::from(3, app.addr);
    assert_eq!(other.ask(&live()).status, 200);
    let mut held: Vec<_> = (0..60).map(|_| idle(2, &app)).collect();
    assert_eq!(held[0].stream().read(&mut [0]).unwrap_or(0), 0, "it is closed");
    assert!(is_served(&mut held[59]));
    assert_eq!(held.iter_mut().map(is_served).filter(|is_served| *is_served).count(), 50);
    assert_eq!(other.ask(&webhook(EXAMPLE)).status, 200);
    assert_eq!(app.metric("hookkeeper_connections_evicted_total"), 10.0);
    // The health check comes from an address that has its share.
    let _held: Vec<_> = (0..60).map(|_| app.connect()).collect();
    let addr = app.addr.to_string();
    let check = hookkeeper(app.folder().path()).args(["healthcheck", "--bind-addr", &addr]).status();
    assert_eq!(check.unwrap().code(), Some(0));
}

/// Method: a limit of files that leaves room for 244 connections, which seven clients hold. Some of these wait for an
/// answer, which is no idling.
#[test]
fn when_there_are_all_connections_the_longest_idle_one_makes_room() {
    let limit = "ulimit -n 500; CLIENT_CONNECTIONS_MAX=40 exec \"$0\"";
    let app = TestApp::under(&["sh", "-c", limit], Arc::new(tempfile::tempdir().unwrap()));
    let held = |n| idle(u8::try_from(11 + n / 40).unwrap(), &app);
    let first: Vec<_> = (0..200).map(held).collect();
    let lock = Database::open(app.database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut asking = Connection::from(10, app.addr);
    asking.send(&webhook(EXAMPLE));
    let _later: Vec<_> = (200..280).map(held).collect();
    assert_eq!(Connection::from(3, app.addr).ask(&live()).status, 200);
    assert_eq!(first[0].stream().read(&mut [0]).unwrap_or(0), 0, "it is closed");
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(asking.answer(true).unwrap().status, 200);
}

/// A client that does not read its answers holds a connection as well.
#[test]
fn connections_whose_answers_are_not_read_make_room() {
    let app = TestApp::with(&[("CLIENT_CONNECTIONS_MAX", "5")]);
    for n in 0..50 {
        app.store(&json!({"message_id": n.to_string(), "text": "😀".repeat(4096)}));
    }
    let page = request("GET", "/messages?limit=50", &[], b"").repeat(8);
    let held: Vec<_> = (0..12)
        .map(|_| {
            let mut connection = Connection::from(2, app.addr);
            connection.send(&page);
            // The answer has begun, and there is more of it than the kernel keeps.
            connection.stream().peek(&mut [0]).unwrap();
            connection
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while app.metric("hookkeeper_connections") > 7.0 {
        assert!(Instant::now() < deadline, "{}", app.metric("hookkeeper_connections"));
    }
    drop(held);
}

#[test]
fn a_trusted_proxy_may_have_all_connections() {
    let app = TestApp::with(&[("CLIENT_CONNECTIONS_MAX", "5"), ("TRUSTED_PROXIES", "127.0.0.2")]);
    let mut held: Vec<_> = (0..20).map(|_| Connection::from(2, app.addr)).collect();
    assert!(held.iter_mut().all(|connection| connection.ask(&live()).status == 200));
}

/// Goal: silent handshakes delay nobody. Method: more of them than there may be of one client, and than the library
/// would have waited for; and a client of another address.
#[test]
fn silent_tls_handshakes_hold_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let client = renew(folder.path());
    let app = TestApp::with(&[("TLS_CERT", &path("cert.pem")), ("TLS_KEY", &path("key.pem"))]);
    let held: Vec<_> = (0..600).map(|_| Connection::from(2, app.addr)).collect();
    let url = format!("https://localhost:{}", app.addr.port());
    let started = Instant::now();
    assert_eq!(client.get(&format!("{url}/health/ready")).call().unwrap().status(), 200);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let metrics = client.get(&format!("{url}/metrics")).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(metrics.contains("hookkeeper_handshakes_evicted_total 344"), "{metrics}");
    // They end by themselves.
    for connection in held {
        assert_eq!(connection.stream().read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

fn is_served(connection: &mut Connection) -> bool {
    connection.send(&live());
    connection.answer(true).is_some()
}

fn live() -> Vec<u8> {
    request("GET", "/health/live", &[], b"")
}
