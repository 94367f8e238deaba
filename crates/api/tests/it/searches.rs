//! Searches that take long, and who else wants to ask.

use rusqlite::Connection as Database;
use serde_json::json;

use crate::test_app::{Connection, TestApp, request};

/// A search that ends with its time only: a question about a sender goes through all segments, and now there are more
/// than there is time for.
const ENDLESS: &str = "/messages?from=%2B919876543210&q=hello";

fn with_endless_searches() -> TestApp {
    let app = TestApp::start();
    app.store(&json!({}));
    let database = Database::open(app.database()).unwrap();
    database.execute("UPDATE totals SET indexed_seq = 1 << 60", []).unwrap();
    app
}

fn get(target: &str) -> Vec<u8> {
    request("GET", target, &[], b"")
}

fn begin_endless(app: &TestApp) -> Connection {
    let mut connection = app.connect();
    connection.send(&get(ENDLESS));
    connection
}

#[test]
fn a_search_that_takes_too_long_is_told_how_to_take_less_and_look_ups_go_on() {
    let app = with_endless_searches();
    let _searches: Vec<Connection> = (0..4).map(|_| begin_endless(&app)).collect();
    let answer = app.get(ENDLESS);
    let detail =
        "the search takes too long or too many are under way: narrow it by from or since, or try again";
    assert_eq!((answer.status, answer.json()), (503, json!({"detail": detail})));
    assert_eq!(answer.headers["retry-after"], "1");
    for look_up in ["/stats", "/messages", "/messages?since=2025-01-01T00:00:00Z"] {
        assert_eq!(app.get(look_up).status, 200, "{look_up}");
    }
}
