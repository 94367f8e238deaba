//! Searches that take long, and who else wants to ask.

use rusqlite::Connection as Database;
use serde_json::json;

use crate::test_app::{Connection, TestApp, request};

/// A search that ends with its time only: a question about a sender goes through all segments, and now there are more
/// than there is time for.
const ENDLESS: &str = "/messages?from=%2B919876543210&q=hello";

/// A search that ends at once.
const SEARCH: &str = "/messages?q=hello";

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

fn begin_endless(app: &TestApp, host: u8) -> Connection {
    let mut connection = Connection::from(host, app.addr);
    connection.send(&get(ENDLESS));
    connection
}

#[test]
fn a_search_that_takes_too_long_is_told_how_to_take_less_and_look_ups_go_on() {
    let app = with_endless_searches();
    let _searches: Vec<Connection> = (0..4).map(|n| begin_endless(&app, 2 + n / 2)).collect();
    let answer = app.get(ENDLESS);
    let detail =
        "the search takes too long or too many are under way: narrow it by from or since, or try again";
    assert_eq!((answer.status, answer.json()), (503, json!({"detail": detail})));
    assert_eq!(answer.headers["retry-after"], "1");
    for look_up in ["/stats", "/messages", "/messages?since=2025-01-01T00:00:00Z"] {
        assert_eq!(app.get(look_up).status, 200, "{look_up}");
    }
}

#[test]
fn a_client_that_hangs_up_gives_its_turn_back() {
    let app = with_endless_searches();
    // Two clients have all the turns that there are. What is sent ahead changes nothing.
    for (host, ahead) in [(2, &b""[..]), (4, &get("/stats"))] {
        let mut searches: Vec<Connection> =
            (0..4).map(|n| Connection::from(host + n / 2, app.addr)).collect();
        for search in &mut searches {
            search.send(&[&get(ENDLESS), ahead].concat());
        }
        let mut other = Connection::from(6, app.addr);
        assert!((0..1_000).any(|_| other.ask(&get(SEARCH)).status == 503), "all turns are taken");
        drop(searches);
        assert_eq!(other.ask(&get(SEARCH)).status, 200);
    }
    for _ in 0..8 {
        app.log_line(|line| line["status"] == 499 && line["path"] == "/messages");
    }
}

#[test]
fn a_client_has_a_share_of_the_searches() {
    let app = with_endless_searches();
    let mut searches: Vec<Connection> = (0..8).map(|_| Connection::from(2, app.addr)).collect();
    for search in &mut searches {
        search.send(&get(ENDLESS));
    }
    for _ in 0..6 {
        app.log_line(|line| {
            line["status"] == 503 && line["error"] == "too many searches of one client at once"
        });
    }
    assert_eq!(Connection::from(3, app.addr).ask(&get(SEARCH)).status, 200);
    // Of what is no search the same client has a share, too.
    assert_eq!(Connection::from(2, app.addr).ask(&get("/stats")).status, 200);
}
