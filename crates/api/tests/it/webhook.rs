//! Section 2: `POST /webhook`.

use std::sync::Barrier;
use std::thread;

use rusqlite::Connection as Database;
use serde_json::{Value, json};

use crate::test_app::{EXAMPLE, EXAMPLE_SIGNATURE, TestApp, payload, request, sign, webhook};

#[test]
fn the_example_of_the_contract_is_stored() {
    let app = TestApp::start();
    assert_eq!(EXAMPLE.len(), 105);
    let signature = ("X-Signature", EXAMPLE_SIGNATURE.as_bytes());
    let answer = app.post(&[signature, ("Content-Type", b"application/json")], EXAMPLE);
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"ok"}"#));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        app.get("/messages").json()["data"],
        json!([serde_json::from_slice::<Value>(EXAMPLE).unwrap()])
    );
    assert_eq!(app.metric("webhook_requests_total{result=\"created\"}"), 1.0);
}

#[test]
fn a_signature_that_is_not_exactly_right_is_401_and_nothing_is_stored() {
    let app = TestApp::start();
    let good = EXAMPLE_SIGNATURE.as_bytes();
    let name = "X-Signature";
    let wrong = sign(b"another body");
    let prefixed = format!("sha256={EXAMPLE_SIGNATURE}");
    let long = format!("{EXAMPLE_SIGNATURE}00");
    let cases: &[&[(&str, &[u8])]] = &[
        &[],
        &[(name, b"")],
        &[(name, b"   ")],
        &[(name, good), (name, good)],
        &[(name, good), ("x-signature", b"00")],
        &[(name, wrong.as_bytes())],
        &[(name, b"not hex at all")],
        &[(name, &good[..62])],
        &[(name, &good[..63])],
        &[(name, long.as_bytes())],
        &[(name, prefixed.as_bytes())],
        &[(name, b"/xAW5SS8kpnRiYjs8nqICvlCgUDjhQrwxz6h7vCRpMs=")],
        &[(name, &[0xc3, 0xa9])],
        &[(name, &[0xff; 64])],
        &[("X-Hub-Signature-256", good)],
    ];
    for headers in cases {
        let answer = app.post(headers, EXAMPLE);
        assert_eq!(
            (answer.status, answer.json()),
            (401, json!({"detail": "invalid signature"})),
            "{headers:?}"
        );
    }
    // A signature of one body does not cover another, however alike.
    let spaced = [EXAMPLE, b" "].concat();
    assert_eq!(app.post(&[(name, good)], &spaced).status, 401);
    // Nor is anything in the body believed: no validation error leaks out.
    assert_eq!(app.post(&[(name, b"00")], b"not json").status, 401);
    assert_eq!(app.total(), 0);
    assert_eq!(app.metric("webhook_requests_total{result=\"invalid_signature\"}"), cases.len() as f64 + 2.0);
    let line = app.log_line(|line| line["status"] == 401);
    assert_eq!(line["level"], "ERROR");
}

#[test]
fn hex_has_no_case_and_white_space_around_it_does_not_count() {
    let app = TestApp::start();
    let upper = EXAMPLE_SIGNATURE.to_uppercase();
    let spaced = format!(" \t {EXAMPLE_SIGNATURE} \t");
    for value in [upper.as_bytes(), spaced.as_bytes()] {
        assert_eq!(app.post(&[("x-SIGNATURE", value)], EXAMPLE).status, 200);
    }
}

#[test]
fn the_content_type_is_not_enforced() {
    let app = TestApp::start();
    let signature = ("X-Signature", EXAMPLE_SIGNATURE.as_bytes());
    for content_type in [&b"text/plain"[..], b"application/x-www-form-urlencoded", b"nonsense"] {
        assert_eq!(app.post(&[signature, ("Content-Type", content_type)], EXAMPLE).status, 200);
    }
}

#[test]
fn what_is_not_one_json_object_is_422() {
    let app = TestApp::start();
    let spaces = " ".repeat(1000);
    let deep = "[".repeat(100_000);
    for body in
        ["", "null", "[]", "\"x\"", "{", "{}{}", "{} trailing", "{'a':1}", "\u{feff}{}", &spaces, &deep]
    {
        assert_eq!(app.receive(body.as_bytes()).broken_fields(), ["body"], "{body:.20}");
    }
    assert_eq!(app.receive(b"{\"message_id\":\"\xff\"}").broken_fields(), ["body"]);
    let trailing = [EXAMPLE, b"x"].concat();
    assert_eq!(app.receive(&trailing).broken_fields(), ["body"]);
    assert_eq!(app.total(), 0);
}

#[test]
fn every_broken_field_is_reported_and_the_id_stays_free() {
    let app = TestApp::start();
    let broken = json!({"from": "12", "to": 12, "ts": "yesterday", "text": ["x"]});
    assert_eq!(app.receive_with(&broken).broken_fields(), ["from", "to", "ts", "text"]);
    assert_eq!(app.receive(b"{}").broken_fields(), ["message_id", "from", "to", "ts"]);
    assert_eq!(app.total(), 0);
    app.store(&json!({}));
    assert_eq!(app.metric("webhook_requests_total{result=\"validation_error\"}"), 2.0);
    assert_eq!(app.metric("webhook_requests_total{result=\"created\"}"), 1.0);
}

#[test]
fn message_id_is_any_string_of_1_to_512_bytes() {
    let app = TestApp::start();
    for id in ["x", " x ", "X", "\u{0}", "é", &"a".repeat(512)] {
        app.store(&json!({ "message_id": id }));
    }
    assert_eq!(app.total(), 6, "no trimming, no folding");
    for id in [json!(""), json!(null), json!(7), json!("a".repeat(513)), json!("é".repeat(257))] {
        assert_eq!(app.receive_with(&json!({ "message_id": id })).broken_fields(), ["message_id"]);
    }
}

#[test]
fn from_and_to_are_a_plus_and_1_to_32_digits() {
    let app = TestApp::start();
    for (n, number) in
        ["+1", "+0123", "+919876543210", "+12345678901234567890123456789012"].iter().enumerate()
    {
        app.store(&json!({"message_id": n.to_string(), "from": number, "to": number}));
    }
    for number in [
        "+91 98",
        "+9198\n",
        "+٩١",
        "9198",
        "+",
        "",
        " +1",
        "++1",
        "+1a",
        "+１",
        "+123456789012345678901234567890123",
    ] {
        for field in ["from", "to"] {
            assert_eq!(app.receive_with(&json!({ field: number })).broken_fields(), [field], "{number:?}");
        }
    }
}

#[test]
fn ts_is_a_real_utc_time_and_comes_back_as_sent() {
    let app = TestApp::start();
    let good = [
        "2024-02-29T00:00:00Z",
        "2025-01-15T10:00:00.5Z",
        "2025-01-15T10:00:00.123456789Z",
        "2025-12-31T23:59:59.000Z",
        "2025-12-31T23:59:59.123456789012345678901234567890Z",
    ];
    for (n, ts) in good.iter().enumerate() {
        app.store(&json!({"message_id": n.to_string(), "ts": ts}));
    }
    let listed = app.get("/messages").json();
    let listed: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|m| m["ts"].as_str().unwrap()).collect();
    assert_eq!(listed, [good[0], good[2], good[1], good[3], good[4]]);
    for ts in [
        "2025-01-15T10:00:00+00:00",
        "2025-01-15T10:00:00+05:30",
        "2025-01-15T10:00:00",
        "2025-01-15T10:00:00ZZ",
        "2025-01-15T10:00:00.1234567890123456789012345678901Z",
        "2025-01-15T10:00:00z",
        "2025-02-29T10:00:00Z",
        "2025-13-01T10:00:00Z",
        "2025-01-15T24:00:00Z",
        "2025-01-15T10:60:00Z",
        "2025-01-15 10:00:00Z",
        "2025-01-15",
        "1736935200",
        "",
    ] {
        assert_eq!(app.receive_with(&json!({ "ts": ts })).broken_fields(), ["ts"], "{ts}");
    }
}

#[test]
fn text_is_optional_and_has_up_to_4096_characters() {
    let app = TestApp::start();
    app.store(&json!({"message_id": "1", "text": null}));
    app.store(&json!({"message_id": "2", "text": ""}));
    app.store(&json!({"message_id": "3", "text": "😀".repeat(4096)}));
    let mut absent = payload(&json!({"message_id": "4"}));
    absent.as_object_mut().unwrap().remove("text");
    assert_eq!(app.receive(absent.to_string().as_bytes()).status, 200);
    assert_eq!(app.receive_with(&json!({"text": "😀".repeat(4097)})).broken_fields(), ["text"]);
    assert_eq!(app.receive_with(&json!({"text": 5})).broken_fields(), ["text"]);
    let json = app.get("/messages").json();
    let texts: Vec<&Value> = json["data"].as_array().unwrap().iter().map(|m| &m["text"]).collect();
    assert_eq!(texts, [&json!(null), &json!(""), &json!("😀".repeat(4096)), &json!(null)]);
}

#[test]
fn unknown_fields_are_ignored_and_a_repeated_key_is_422() {
    let app = TestApp::start();
    app.store(&json!({"extra": {"deep": [1, 2, {"x": null}]}, "": 1}));
    let repeated =
        br#"{"message_id":"m2","message_id":"m2","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z"}"#;
    assert_eq!(app.receive(repeated).broken_fields(), ["message_id"]);
    let unknown = br#"{"message_id":"m2","x":1,"x":1,"from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z"}"#;
    assert_eq!(app.receive(unknown).broken_fields(), ["x"]);
    assert_eq!(app.total(), 1);
}

/// JSON allows an escape that is half of a surrogate pair. It is no Unicode text, and no part of an unknown field
/// matters.
#[test]
fn half_an_emoji_is_422_in_a_text_and_ignored_in_the_name_of_an_unknown_field() {
    let app = TestApp::start();
    let answer = app.receive(br#"{"message_id":"ls1","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z","text":"half an emoji \ud83d"}"#);
    assert_eq!(answer.broken_fields(), ["text"]);
    let msg = answer.json()["detail"][0]["msg"].clone();
    assert!(msg.as_str().unwrap().contains("half of a surrogate pair"), "{msg}");
    let answer = app.receive(
        br#"{"message_id":"ls3","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z","text":"ok","\ud83d":1}"#,
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(app.ids("/messages"), ["ls3"]);
    let answer = app.receive(
        br#"{"message_id":"ls4","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z","\ud83d":1,"\uD83D":1}"#,
    );
    assert_eq!(answer.broken_fields().len(), 1);
}

#[test]
fn the_first_message_of_an_id_is_kept_whatever_the_second_says() {
    let app = TestApp::start();
    app.store(&json!({}));
    let other = json!({"from": "+1", "to": "+2", "ts": "2020-01-01T00:00:00Z", "text": "changed"});
    let answer = app.receive_with(&other);
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})));
    let json = app.get("/messages").json();
    assert_eq!(json["total"], 1);
    assert_eq!(json["data"][0], serde_json::from_slice::<Value>(EXAMPLE).unwrap());
    assert_eq!(app.metric("webhook_requests_total{result=\"created\"}"), 1.0);
    assert_eq!(app.metric("webhook_requests_total{result=\"duplicate\"}"), 1.0);
}

#[test]
fn of_50_identical_requests_at_once_one_creates_and_49_are_duplicates() {
    let app = TestApp::start();
    let start = Barrier::new(50);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let one = || {
            let mut connection = app.connect();
            start.wait();
            connection.ask(&webhook(EXAMPLE)).status
        };
        let all: Vec<_> = (0..50).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 50]);
    assert_eq!(app.total(), 1);
    assert_eq!(app.metric("webhook_requests_total{result=\"created\"}"), 1.0);
    assert_eq!(app.metric("webhook_requests_total{result=\"duplicate\"}"), 49.0);
    assert_eq!(app.metric("http_requests_total{path=\"/webhook\",status=\"200\"}"), 50.0);
}

/// Method: another connection takes the table away, and gives it back.
#[test]
fn while_the_database_fails_the_answer_is_503_and_after_it_200() {
    let app = TestApp::start();
    app.store(&json!({"message_id": "before"}));
    let database = Database::open(app.database()).unwrap();
    database.execute_batch("ALTER TABLE messages RENAME TO messages_gone").unwrap();
    let answer = app.receive_with(&json!({"message_id": "during"}));
    assert_eq!(answer.status, 503);
    assert!(answer.json()["detail"].is_string());
    assert!(answer.headers["retry-after"].parse::<u32>().unwrap() > 0);
    let not_ready = app.get("/health/ready");
    assert_eq!(not_ready.status, 503);
    assert!(not_ready.json()["detail"].as_str().unwrap().starts_with("database: "), "{not_ready:?}");
    assert_eq!(app.get("/health/live").status, 200);
    assert_eq!(app.get("/messages").status, 503);

    database.execute_batch("ALTER TABLE messages_gone RENAME TO messages").unwrap();
    assert_eq!(app.get("/health/ready").status, 200);
    app.store(&json!({"message_id": "during"}));
    assert_eq!(app.total(), 2);
    assert_eq!(app.metric("webhook_requests_total{result=\"unavailable\"}"), 1.0);
}

/// Goal: overload is 503 with `Retry-After`, and every message gets in by trying again.
/// Method: hold the database's lock, so that nothing leaves the queue, and send more than it holds.
#[test]
fn a_full_queue_is_503_and_nothing_is_lost_by_trying_again() {
    let app = TestApp::start();
    let lock = Database::open(app.database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let bodies: Vec<Vec<u8>> = (0..90)
        .map(|n| {
            let padding = "x".repeat((1 << 20) - 1000);
            payload(&json!({"message_id": n.to_string(), "padding": padding})).to_string().into_bytes()
        })
        .collect();
    let (first_refusal, refused) = std::sync::mpsc::channel();
    let answers = thread::scope(|scope| {
        let (app, first_refusal) = (&app, &first_refusal);
        let send = move |body: &[u8]| {
            let answer = app.receive(body);
            if answer.status == 503 {
                first_refusal.send(()).unwrap();
            }
            answer
        };
        let senders: Vec<_> = bodies.iter().map(|body| scope.spawn(move || send(body))).collect();
        refused.recv().unwrap();
        lock.execute_batch("ROLLBACK").unwrap();
        senders.into_iter().map(|s| s.join().unwrap()).collect::<Vec<_>>()
    });
    let accepted = answers.iter().filter(|a| a.status == 200).count();
    for answer in answers.iter().filter(|a| a.status != 200) {
        assert_eq!(answer.status, 503);
        assert!(answer.headers["retry-after"].parse::<u32>().unwrap() > 0);
    }
    assert!(accepted < 90);
    let line = app.log_line(|line| line["status"] == 503);
    let why = line["error"].as_str().unwrap();
    assert!(why.contains("the queue is full") || why.contains("too many request bodies"), "{why}");
    assert_eq!(app.total(), accepted as u64);
    for body in &bodies {
        assert_eq!(app.receive(body).status, 200);
    }
    assert_eq!(app.total(), 90);
}

/// Goal: a sender that hangs up right after its request still gets its message stored, counted and
/// logged. Method: close with unread data pending, which resets the connection.
#[test]
fn a_sender_that_hangs_up_is_served_to_the_end() {
    let app = TestApp::start();
    for n in 0..20 {
        let body = payload(&json!({"message_id": n.to_string()})).to_string();
        let mut connection = app.connect();
        connection.send(&request("GET", "/health/live", &[], b""));
        connection.send(&webhook(body.as_bytes()));
        drop(connection);
    }
    let mut logged: Vec<u32> = (0..20)
        .map(|_| app.log_line(|line| line["result"] == "created"))
        .map(|line| line["message_id"].as_str().unwrap().parse().unwrap())
        .collect();
    logged.sort_unstable();
    assert_eq!(logged, (0..20).collect::<Vec<_>>());
    assert_eq!(app.total(), 20);
    assert_eq!(app.metric("webhook_requests_total{result=\"created\"}"), 20.0);
}
