//! `RETENTION_DAYS` and `DEDUPE_DAYS`.

use std::time::{Duration, Instant};

use rusqlite::Connection as Database;
use serde_json::json;

use crate::test_app::TestApp;

/// Goal: what arrived longer ago is gone after a start, its repeat is a duplicate, and nothing is gone without the
/// setting. Method: another hand makes messages two days older.
#[test]
fn old_messages_go_and_their_repeats_are_duplicates() {
    let mut app = TestApp::start();
    for n in 0..20 {
        app.store(&json!({"message_id": format!("m{n:02}")}));
    }
    app.signal(rustix::process::Signal::TERM);
    app.end();
    Database::open(app.database())
        .unwrap()
        .execute_batch(
            "UPDATE messages SET received_at_us = received_at_us - 2 * 86400000000 WHERE seq <= 15; \
             UPDATE clock SET settled_us = unixepoch() * 1000000, stamped_seq = 20",
        )
        .unwrap();
    let mut app = TestApp::on(app.folder(), &[]);
    assert_eq!(app.total(), 20);
    app.signal(rustix::process::Signal::TERM);
    app.end();

    let app = TestApp::on(app.folder(), &[("RETENTION_DAYS", "1"), ("DEDUPE_DAYS", "30")]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while app.total() != 5 {
        assert!(Instant::now() < deadline, "{}", app.total());
        std::thread::yield_now();
    }
    assert_eq!(app.ids("/messages"), ["m15", "m16", "m17", "m18", "m19"]);
    for id in ["m00", "m19"] {
        let answer = app.receive_with(&json!({"message_id": id}));
        assert_eq!(answer.headers["x-webhook-result"], "duplicate", "{id}");
    }
    assert_eq!(app.total(), 5);

    // An operator finds what was kept, and what was removed.
    let line = app.log_line(|line| line["msg"] == "retention");
    assert_eq!((&line["retention_days"], &line["dedupe_days"]), (&json!("1"), &json!("30")));
    let line = app.log_line(|line| line["msg"] == "removed what has expired");
    assert_eq!((&line["expired_messages"], &line["expired_keys"]), (&json!(15), &json!(0)));
    assert_eq!(app.metric("hookkeeper_expired_total{kind=\"message\"}"), 15.0);
    let metrics = app.get("/metrics").body;
    assert!(
        metrics.contains("hookkeeper_expired_total{kind=\"key\"} 0\n"),
        "every series is there from the start"
    );
}

/// Goal: a start with a clock that is a year ahead removes nothing, and says so. Method: the last reading is a year
/// behind, and so is what the messages were stamped with.
#[test]
fn after_a_jump_of_the_clock_nothing_is_removed_and_the_log_says_so() {
    let mut app = TestApp::start();
    app.store(&json!({"message_id": "m1"}));
    app.signal(rustix::process::Signal::TERM);
    app.end();
    Database::open(app.database())
        .unwrap()
        .execute_batch(
            "UPDATE messages SET received_at_us = received_at_us - 365 * 86400000000; \
             UPDATE clock SET settled_us = (unixepoch() - 365 * 86400) * 1000000, since_us = NULL, \
                 stamped_seq = 1",
        )
        .unwrap();
    let app = TestApp::on(app.folder(), &[("RETENTION_DAYS", "1")]);
    let line = app.log_line(|line| line["level"] == "WARN" && line["from"].is_string());
    assert!(line["msg"].as_str().unwrap().starts_with("the clock jumped"), "{line}");
    app.store(&json!({"message_id": "m2"}));
    assert_eq!(app.total(), 2);
}
