//! Section 4: `GET /stats`.

use serde_json::json;

use crate::test_app::TestApp;

#[test]
fn an_empty_store_has_zeros_and_nulls() {
    let answer = TestApp::start().get("/stats");
    assert_eq!(
        answer.body,
        r#"{"total_messages":0,"senders_count":0,"messages_per_sender":[],"first_message_ts":null,"last_message_ts":null}"#
    );
}

#[test]
fn the_top_ten_are_by_count_then_by_sender_and_all_senders_are_counted() {
    let app = TestApp::start();
    let mut n = 0;
    for sender in 0..12 {
        let count = if sender == 7 { 3 } else { 1 + sender % 2 };
        for _ in 0..count {
            n += 1;
            app.store(&json!({"message_id": n.to_string(), "from": format!("+{sender}")}));
        }
    }
    let stats = app.get("/stats").json();
    assert_eq!(stats["total_messages"], n);
    assert_eq!(stats["senders_count"], 12);
    let top: Vec<(&str, u64)> = stats["messages_per_sender"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["from"].as_str().unwrap(), row["count"].as_u64().unwrap()))
        .collect();
    let want = [
        ("+7", 3),
        ("+1", 2),
        ("+11", 2),
        ("+3", 2),
        ("+5", 2),
        ("+9", 2),
        ("+0", 1),
        ("+10", 1),
        ("+2", 1),
        ("+4", 1),
    ];
    assert_eq!(top, want);
}

#[test]
fn first_and_last_are_by_time_and_as_sent() {
    let app = TestApp::start();
    for (id, ts) in [
        ("1", "2025-01-15T10:00:00.5Z"),
        ("2", "2025-01-15T10:00:00.50001Z"),
        ("3", "2025-01-10T09:00:00.000Z"),
        ("4", "2025-01-10T09:00:00.1Z"),
    ] {
        app.store(&json!({"message_id": id, "ts": ts}));
    }
    app.receive_with(&json!({"message_id": "1", "ts": "1999-01-01T00:00:00Z"}));
    let stats = app.get("/stats").json();
    assert_eq!(stats["first_message_ts"], "2025-01-10T09:00:00.000Z");
    assert_eq!(stats["last_message_ts"], "2025-01-15T10:00:00.50001Z");
    assert_eq!(stats["total_messages"], 4);
}

#[test]
fn every_message_answered_200_is_seen_at_once() {
    let app = TestApp::start();
    for n in 1..=50 {
        app.store(&json!({"message_id": n.to_string()}));
        assert_eq!(app.get("/stats").json()["total_messages"], n);
        assert_eq!(app.total(), n);
    }
}
