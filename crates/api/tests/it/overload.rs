//! More than the service takes: connections, heads, bodies and requests. Its memory stays bounded, others are
//! served meanwhile, and it is itself again after.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rusqlite::Connection as Database;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::test_app::{Connection, EXAMPLE, TestApp, request, sign, skipped, webhook};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Memory of the service that is resident now.
fn rss_bytes(app: &TestApp) -> u64 {
    memory(app, "VmRSS:")
}

/// The most that it has been since the service started.
fn peak_rss_bytes(app: &TestApp) -> u64 {
    memory(app, "VmHWM:")
}

fn memory(app: &TestApp, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid().as_raw_nonzero())).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB")).unwrap();
    kib.trim().parse::<u64>().unwrap() * KIB
}

/// Connections that have been answered once. The test has their other ends open itself: if it may not, it says
/// so and has none.
fn idle(app: &TestApp, n: u64) -> Option<Vec<Connection>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    // And what other tests have open beside.
    if limit.maximum.is_some_and(|files| files < n + 4096) {
        skipped("thousands of connections: the limit of open files is too low");
        return None;
    }
    let live = request("GET", "/health/live", &[], b"");
    let one = |_| {
        let mut connection = app.connect();
        assert_eq!(connection.ask(&live).status, 200);
        connection
    };
    Some((0..n).map(one).collect())
}

/// Waits for the connection's end, and fails if it does not come.
fn is_ended(connection: &Connection) -> bool {
    match connection.stream().read(&mut [0]) {
        Ok(n_bytes) => n_bytes == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn five_thousand_idle_connections_cost_little_and_keep_nobody_out() {
    let app = TestApp::with(&[("CLIENT_CONNECTIONS_MAX", "8192")]);
    app.store(&json!({}));
    let before = rss_bytes(&app);
    let Some(idle) = idle(&app, 5000) else { return };
    let each = (rss_bytes(&app) - before) / 5000;
    assert!(each < 32 * KIB, "{each} bytes each");
    assert_eq!(app.receive(EXAMPLE).status, 200);
    for mut connection in idle {
        assert_eq!(connection.ask(&webhook(EXAMPLE)).status, 200);
    }
    assert_eq!(app.total(), 1);
}

/// Goal: connections never use up the files that the database needs. Method: a limit of 500, which leaves room
/// for 244 connections; and more of them than that.
#[test]
fn connections_leave_files_for_the_database() {
    let limit = "ulimit -n 500; exec \"$0\"";
    let app = TestApp::under(&["sh", "-c", limit], Arc::new(tempfile::tempdir().unwrap()));
    let line = app.log_line(|line| line["level"] == "WARN" && line.get("connections_max").is_some());
    assert_eq!((&line["connections_max"], &line["files_wanted"]), (&json!(244), &json!(8448)));
    let mut held: Vec<_> = (0..400).map(|_| app.connect()).collect();
    let mut last = held.pop().unwrap();
    assert_eq!(last.ask(&webhook(EXAMPLE)).status, 200);
    assert_eq!(last.ask(&request("GET", "/health/ready", &[], b"")).status, 200);
    assert_eq!(last.ask(&request("GET", "/messages", &[], b"")).status, 200);
    assert!(is_ended(&held[0]), "who idled longest made room");
}

/// The ten seconds that a head has.
#[test]
fn heads_that_do_not_arrive_in_time_are_not_waited_for_and_others_are_served_meanwhile() {
    let app = TestApp::start();
    let mut first: Vec<_> = (0..200).map(|_| app.connect()).collect();
    let mut later: Vec<_> = (0..200).map(|_| app.connect()).collect();
    for connection in &mut later {
        assert_eq!(connection.ask(&request("GET", "/health/live", &[], b"")).status, 200);
    }
    for connection in first.iter_mut().chain(&mut later) {
        connection.send(b"GET /stats HTTP/1.1\r\nHost: te");
    }
    assert_eq!(app.receive(EXAMPLE).status, 200);
    // Some senders put an empty line behind a body, with it or later: it is the beginning of nothing.
    let mut idle = [app.connect(), app.connect()];
    idle[0].send(&[webhook(EXAMPLE), b"\r\n".to_vec()].concat());
    assert_eq!(idle[0].answer(true).unwrap().status, 200);
    assert_eq!(idle[1].ask(&webhook(EXAMPLE)).status, 200);
    idle[1].send(b"\r\n");
    for connection in first.iter_mut().chain(&mut later) {
        let answer = connection.answer(true).unwrap();
        assert_eq!((answer.status, answer.headers["connection"].as_str()), (408, "close"));
    }
    for connection in &mut idle {
        assert_eq!(connection.ask(&webhook(EXAMPLE)).status, 200);
    }
    assert_eq!(app.receive(EXAMPLE).status, 200);
}

/// The rest of a body that was refused is not a way to keep a connection busy for ever.
#[test]
fn a_body_that_goes_on_after_its_refusal_is_not_read_for_ever() {
    let app = TestApp::start();
    let mut connection = app.connect();
    connection.send(&request("POST", "/nowhere", &[("Transfer-Encoding", b"chunked")], b"1\r\nx\r\n"));
    assert_eq!(connection.answer(true).unwrap().status, 404);
    connection.send(b"1\r\nx\r\n");
    assert!(is_ended(&connection));
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let app = TestApp::start();
    let padding = vec![b'x'; 200 << 10];
    let mut connection = app.connect();
    connection.send(&request("GET", "/stats", &[("X-Padding", &padding)], b""));
    assert_eq!(connection.answer(true).unwrap().status, 431);
    assert_eq!(app.receive(EXAMPLE).status, 200);
}

/// Goal: no head reaches actix-http that its libraries panic at, or refuse without a word. Method: the last read brings the head
/// beyond the bound and to its end at once; a field's name of 65,500 bytes ended the connection's task.
#[test]
fn a_head_that_ends_just_beyond_its_bound_is_431() {
    let app = TestApp::start();
    let name = [&b"GET /stats HTTP/1.1\r\nHost: a\r\n"[..], &[b'x'; 65_600], b":\r\n\r\n"].concat();
    let target = [&b"GET /"[..], &[b'a'; 65_580], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    for head in [name, target] {
        assert!((64 << 10..65 << 10).contains(&(head.len() as u64)));
        let mut connection = app.connect();
        // Reads are of 1,024 bytes, but for the first one.
        let (first, rest) = head.split_at(head.len() - (64 << 10) + 10);
        connection.send(first);
        app.get("/health/live");
        connection.send(rest);
        assert_eq!(connection.answer(true).unwrap().status, 431);
    }
    assert_eq!(app.receive(EXAMPLE).status, 200);
}

#[test]
fn ten_thousand_pipelined_requests_are_answered_in_order_and_in_little_memory() {
    let app = TestApp::start();
    let mut connection = app.connect();
    let before = rss_bytes(&app);
    let mut sending = connection.stream().try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..10_000 {
                sending.write_all(&request("GET", &format!("/messages?offset={n}"), &[], b"")).unwrap();
            }
        });
        for n in 0..10_000 {
            assert_eq!(connection.answer(true).unwrap().json()["offset"], n);
        }
    });
    let grown = rss_bytes(&app).saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes");
}

/// Goal: requests that are sent ahead take up no memory. Method: clients that send them as long as they can,
/// and read no answer.
#[test]
fn who_sends_requests_and_reads_no_answers_is_not_read_any_more() {
    let app = TestApp::start();
    let many = b"GET / HTTP/1.1\r\nHost:\r\n\r\n".repeat(1000);
    let connections: Vec<_> = (0..8).map(|_| app.connect()).collect();
    let before = rss_bytes(&app);
    thread::scope(|scope| {
        for connection in &connections {
            scope.spawn(|| {
                let mut stream = connection.stream();
                stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
                // The kernel keeps a few megabytes for each end.
                let stopped = (0..10_000).find_map(|_| stream.write_all(&many).err());
                assert_eq!(stopped.expect("it is not read for ever").kind(), ErrorKind::WouldBlock);
            });
        }
    });
    let grown = rss_bytes(&app).saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes");
    assert_eq!(app.receive(EXAMPLE).status, 200);
}

/// Goal: small requests that are sent ahead are not taken apart before their turn. Method: many connections send as many
/// as fit into what is read at once; before, each took up 400 KiB.
#[test]
fn small_requests_that_are_sent_ahead_take_up_little_memory() {
    let app = TestApp::start();
    let many = b"GET / HTTP/1.1\r\nHost:\r\n\r\n".repeat(40);
    let mut connections: Vec<_> = (0..900).map(|_| app.connect()).collect();
    let before = rss_bytes(&app);
    for connection in &mut connections {
        connection.send(&many);
    }
    for connection in &mut connections {
        for _ in 0..40 {
            assert_eq!(connection.answer(true).unwrap().status, 404);
        }
    }
    let grown = peak_rss_bytes(&app).saturating_sub(before);
    assert!(grown < 900 * 48 * KIB, "{grown} bytes");
}

/// Goal: heads that do not end can't fill the memory. Method: more large ones than there is room for.
#[test]
fn large_heads_that_do_not_end_are_refused_when_they_fill_their_memory() {
    let app = TestApp::start();
    let head = [b"GET / HTTP/1.1\r\nHost: x\r\nX-Padding: ", &[b'x'; 60_000][..]].concat();
    let mut connections: Vec<_> = (0..200).map(|_| app.connect()).collect();
    let before = rss_bytes(&app);
    for connection in &mut connections {
        connection.send(&head);
    }
    let line = app.log_line(|line| line["status"] == 503);
    assert_eq!(line["error"], "too many large request heads at once");
    assert_eq!(app.receive(EXAMPLE).status, 200);
    let grown = peak_rss_bytes(&app).saturating_sub(before);
    assert!(grown < 24 * MIB, "{grown} bytes");
}

/// Goal: listings that nobody reads can't fill the memory. Method: a page of twenty megabytes, more than the
/// kernel keeps for a client, and more of them than there is room for. Only an older version stored numbers of
/// such a length, so they are put into the database by hand.
#[test]
fn listings_that_are_not_read_are_refused_when_they_fill_their_memory() {
    let app = TestApp::start();
    for n in 0..50 {
        app.store(&json!({"message_id": n.to_string()}));
    }
    let number = format!("+{}", "1".repeat(400_000));
    Database::open(app.database()).unwrap().execute("UPDATE messages SET recipient = ?1", [number]).unwrap();
    let page = request("GET", "/messages", &[], b"");
    let mut connections: Vec<Connection> = Vec::new();
    let refused = (0..12).find_map(|_| {
        let mut connection = app.connect();
        connection.send(&page);
        connections.push(connection);
        let line = app.log_line(|line| line["path"] == "/messages");
        (line["status"] != 200).then(|| line["error"].clone())
    });
    assert_eq!(refused.unwrap(), "too many listings at once");
    for connection in &mut connections {
        let answer = connection.answer(true).unwrap();
        match answer.status {
            200 => assert_eq!(answer.json()["data"].as_array().unwrap().len(), 50),
            status => assert_eq!((status, answer.headers["retry-after"].as_str()), (503, "1")),
        }
    }
    assert_eq!(app.get("/messages").status, 200);
}

/// A body in chunks of a byte: six bytes on the wire for one of content.
fn in_tiny_chunks(body: &[u8]) -> Vec<u8> {
    body.iter().flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n']).chain(*b"0\r\n\r\n").collect()
}

#[test]
fn a_body_may_come_in_tiny_chunks() {
    let app = TestApp::start();
    let body = [EXAMPLE, &[b' '; 100_000]].concat();
    let headers: [(&str, &[u8]); 2] =
        [("X-Signature", &sign(&body).into_bytes()), ("Transfer-Encoding", b"chunked")];
    assert_eq!(app.post(&headers, &in_tiny_chunks(&body)).status, 200);
}

/// Goal: a body in tiny chunks takes up little more than its content, however it comes. Method: many bodies of
/// 25 KB that do not end; before connections had turns, each took up a megabyte.
#[test]
fn bodies_in_tiny_chunks_take_up_little_more_than_their_content() {
    let app = TestApp::start();
    let chunks = in_tiny_chunks(&[b'x'; 30_000]);
    let headers: [(&str, &[u8]); 2] =
        [("X-Signature", &sign(b"").into_bytes()), ("Transfer-Encoding", b"chunked")];
    let bytes = request("POST", "/webhook", &headers, &chunks[..150_000]);
    let before = rss_bytes(&app);
    let mut connections: Vec<_> = (0..500).map(|_| app.connect()).collect();
    for connection in &mut connections {
        connection.send(&bytes);
    }
    let line = app.log_line(|line| line["path"] == "/webhook");
    let grown = rss_bytes(&app).saturating_sub(before);
    assert_eq!((&line["status"], app.total()), (&json!(408), 0));
    assert!(grown < 500 * 128 * KIB, "{grown} bytes");
}
