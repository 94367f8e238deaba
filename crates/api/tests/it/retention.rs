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
            "UPDATE messages SET received_at_us = received_at_us - 2 * 86400000000 WHERE seq <= 15",
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
}
