//! Section 3: `GET /messages`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::test_app::TestApp;

/// The four messages that most of these tests list, sent out of order.
fn with_four() -> TestApp {
    let app = TestApp::start();
    for (id, from, ts, text) in [
        ("m1", "+919876543210", "2025-01-15T10:00:00Z", json!("Hello")),
        ("m2", "+919876543210", "2025-01-15T09:00:00Z", json!("Earlier")),
        ("m3", "+14155550100", "2025-01-15T10:00:00.5Z", json!("À L'ÉCOLE, 100%_\\\"*'")),
        ("m0", "+14155550100", "2025-01-15T10:00:00.000Z", json!(null)),
    ] {
        app.store(&json!({"message_id": id, "from": from, "ts": ts, "text": text}));
    }
    app
}

#[test]
fn order_is_by_time_then_by_id() {
    assert_eq!(with_four().ids("/messages"), ["m2", "m0", "m1", "m3"]);
}

#[test]
fn an_answer_has_the_page_the_total_and_exactly_five_keys_a_row() {
    let answer = with_four().get("/messages?limit=2");
    assert_eq!(answer.headers["content-type"], "application/json");
    let rows = r#"{"message_id":"m2","from":"+919876543210","to":"+14155550100","ts":"2025-01-15T09:00:00Z","text":"Earlier"},{"message_id":"m0","from":"+14155550100","to":"+14155550100","ts":"2025-01-15T10:00:00.000Z","text":null}"#;
    assert_eq!(answer.body, format!(r#"{{"data":[{rows}],"total":4,"limit":2,"offset":0}}"#));
}

#[test]
fn limit_and_offset_choose_the_page_and_total_counts_all() {
    let app = with_four();
    for (query, want) in [
        ("limit=1&offset=1", &["m0"][..]),
        ("limit=2&offset=3", &["m3"]),
        ("offset=4", &[]),
        ("offset=9223372036854775807", &[]),
        ("limit=100", &["m2", "m0", "m1", "m3"]),
    ] {
        let target = format!("/messages?{query}");
        assert_eq!(app.ids(&target), want, "{query}");
        assert_eq!(app.get(&target).json()["total"], 4, "{query}");
    }
    let defaults = app.get("/messages").json();
    assert_eq!((&defaults["limit"], &defaults["offset"]), (&json!(50), &json!(0)));
}

/// Goal: a walk by `Link` alone sees every message that matches, once. Method: filters of every kind, with all that
/// has to be encoded in a URL and in a header.
#[test]
fn links_lead_through_every_page_with_its_filters_and_limit() {
    let app = with_four();
    const SPECIAL: &str = "a b+c&d=e%\"<>\\;,#/?é\u{1F600}\u{7f}\u{0}'";
    for n in 0..5 {
        app.store(&json!({"message_id": format!("special {n}"), "text": SPECIAL}));
    }
    let special = utf8_percent_encode(SPECIAL, NON_ALPHANUMERIC).to_string();
    for filter in [
        "",
        "from=+919876543210&",
        "from=%2B919876543210&since=&q=&unknown=1&",
        "since=2025-01-15T15:30:00+05:30&",
        "q=e&",
        &format!("q={special}&from=+919876543210&since=2025-01-15T10:00:00Z&"),
    ] {
        let want = app.ids(&format!("/messages?{filter}limit=100"));
        for limit in [1, 2, want.len()] {
            let mut seen = Vec::new();
            let mut target = format!("/messages?{filter}limit={limit}&offset=0");
            loop {
                let answer = app.get(&target);
                let json = answer.json();
                assert_eq!((&json["total"], &json["limit"]), (&json!(want.len()), &json!(limit)), "{target}");
                let page = json["data"].as_array().unwrap().iter();
                seen.extend(page.map(|m| m["message_id"].as_str().unwrap().to_owned()));
                match answer.next_page() {
                    Some(next) => next.clone_into(&mut target),
                    None => break,
                }
                assert!(seen.len() < want.len(), "no link leads to an empty page: {target}");
            }
            assert_eq!(seen, want, "{filter}");
        }
    }
    let first = app.get(&format!("/messages?limit=1&q={special}"));
    let (filters, cursor) = first.next_page().unwrap().split_once("&cursor=").unwrap();
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    assert_eq!(filters, format!("/messages?q={}&limit=1", utf8_percent_encode(SPECIAL, RESERVED)));
    assert!(cursor.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'), "{cursor}");
}

/// Goal: whatever comes in between two pages, no message is seen twice, and none that was there is left out.
#[test]
fn a_cursor_goes_on_after_its_page() {
    let app = with_four();
    let first = app.get("/messages?limit=2&offset=0");
    let next = first.next_page().unwrap();
    app.store(&json!({"message_id": "m0", "from": "+1"}));
    for (id, ts) in [("early", "2000-01-01T00:00:00Z"), ("late", "2100-01-01T00:00:00Z")] {
        app.store(&json!({"message_id": id, "ts": ts}));
    }
    assert_eq!(app.ids(next), ["m1", "m3"]);
    assert_eq!(app.ids(&format!("{next}&offset=2")), ["late"], "counted from there");
    for cursor in ["", "x", "bTE", "MQ==", "%00"] {
        assert_eq!(app.get(&format!("/messages?cursor={cursor}")).broken_fields(), ["cursor"], "{cursor}");
    }
}

#[test]
fn the_default_page_has_fifty() {
    let app = TestApp::start();
    for n in 0..60 {
        app.store(&json!({"message_id": format!("{n:02}")}));
    }
    assert_eq!(app.ids("/messages").len(), 50);
    assert_eq!(app.ids("/messages?offset=50").len(), 10);
}

#[test]
fn a_parameter_that_breaks_its_rule_is_422_and_every_one_is_named() {
    let app = TestApp::start();
    for value in ["", "0", "101", "-1", "x", "1.0", "%2B1", "1e1", "99999999999999999999", "%D9%A1"] {
        assert_eq!(app.get(&format!("/messages?limit={value}")).broken_fields(), ["limit"], "{value}");
    }
    for value in ["", "-1", "x", "18446744073709551616", "9223372036854775808", "0x1"] {
        assert_eq!(app.get(&format!("/messages?offset={value}")).broken_fields(), ["offset"], "{value}");
    }
    for value in
        ["yesterday", "2025-01-15", "2025-01-15T10:00:00", "2025-02-29T10:00:00Z", "1736935200", "%ff"]
    {
        assert_eq!(app.get(&format!("/messages?since={value}")).broken_fields(), ["since"], "{value}");
    }
    let long = format!("2025-01-15T10:00:00.{}Z", "1".repeat(31));
    assert_eq!(app.get(&format!("/messages?since={long}")).broken_fields(), ["since"]);
    let all = app.get("/messages?limit=0&offset=-1&since=x&from=&q=");
    assert_eq!(all.broken_fields(), ["limit", "offset", "since"]);
    assert_eq!(all.json()["detail"][0]["loc"], json!(["query", "limit"]));
    assert_eq!(app.get("/messages?limit=1&limit=2").broken_fields(), ["limit"]);
}

#[test]
fn unknown_parameters_are_ignored_and_an_empty_filter_is_none() {
    let app = with_four();
    for query in ["?", "?x=1&limits=0", "?q=", "?from=&since=&q=", "?&&=&", "?q", "?%ff=1"] {
        assert_eq!(app.ids(&format!("/messages{query}")).len(), 4, "{query}");
    }
}

#[test]
fn from_is_exact_and_its_plus_may_come_unencoded() {
    let app = with_four();
    for value in ["%2B919876543210", "+919876543210", "%20919876543210"] {
        assert_eq!(app.ids(&format!("/messages?from={value}")), ["m2", "m1"], "{value}");
    }
    for value in ["919876543210", "%2B9198765432", "%2B91%25", "%2B", "%2B9198765432100"] {
        let json = app.get(&format!("/messages?from={value}")).json();
        assert_eq!((&json["data"], &json["total"]), (&json!([]), &json!(0)), "{value}");
    }
}

#[test]
fn since_is_inclusive_and_an_offset_is_converted() {
    let app = with_four();
    for (since, want) in [
        ("2025-01-15T10:00:00Z", &["m0", "m1", "m3"][..]),
        ("2025-01-15T10:00:00.0000001Z", &["m3"]),
        ("2025-01-15T15:30:00%2B05:30", &["m0", "m1", "m3"]),
        ("2025-01-15T15:30:00+05:30", &["m0", "m1", "m3"]),
        ("2025-01-15T05:00:00-0500", &["m0", "m1", "m3"]),
        ("2025-01-15T10:00:00.500Z", &["m3"]),
        ("2025-01-15T10:00:01Z", &[]),
        ("0000-01-01T00:00:00Z", &["m2", "m0", "m1", "m3"]),
    ] {
        assert_eq!(app.ids(&format!("/messages?since={since}")), want, "{since}");
    }
}

#[test]
fn q_is_a_substring_in_any_case_with_nothing_special() {
    let app = with_four();
    for (q, want) in [
        ("hello", &["m1"][..]),
        ("EARL", &["m2"]),
        ("%C3%A9cole", &["m3"]),
        ("l%27%C3%89COLE", &["m3"]),
        ("%25", &["m3"]),
        ("_", &["m3"]),
        ("%5C", &["m3"]),
        ("%22", &["m3"]),
        ("*", &["m3"]),
        ("'", &["m3"]),
        ("%25lo", &[]),
        ("null", &[]),
        ("100%25_", &["m3"]),
        (",+100", &["m3"]),
        ("e", &["m2", "m1", "m3"]),
    ] {
        assert_eq!(app.ids(&format!("/messages?q={q}")), want, "{q}");
    }
    assert_eq!(app.get("/messages?q=%ff").broken_fields(), ["q"]);
}

#[test]
fn filters_are_anded_and_total_is_of_what_matches() {
    let app = with_four();
    let json = app.get("/messages?from=+919876543210&since=2025-01-15T09:30:00Z&q=HE&limit=1").json();
    assert_eq!(json["data"][0]["message_id"], "m1");
    assert_eq!(json["total"], 1);
    let json = app.get("/messages?from=+919876543210&limit=1&offset=1").json();
    assert_eq!((&json["data"][0]["message_id"], &json["total"]), (&json!("m1"), &json!(2)));
}

#[test]
fn every_script_comes_back_as_it_was_sent() {
    let app = TestApp::start();
    let texts =
        ["नमस्ते", "שלום \u{202e}abc", "👩‍👩‍👧‍👦 🏳️‍🌈", "a\u{0}b", "\"quoted\\\n\t\u{2028}", "e\u{301}é", "\u{10ffff}"];
    for (n, text) in texts.iter().enumerate() {
        app.store(&json!({"message_id": format!("{n}-{text}"), "text": text}));
    }
    let json = app.get("/messages").json();
    let listed: Vec<&Value> = json["data"].as_array().unwrap().iter().map(|m| &m["text"]).collect();
    assert_eq!(listed, texts.map(|t| json!(t)).iter().collect::<Vec<_>>());
}
