//! Section 5: health. What a failing database does to it is in `webhook`.

use serde_json::json;

use crate::test_app::{EXAMPLE, TestApp, UNSET, request, sign};

#[test]
fn a_service_that_can_work_is_live_and_ready() {
    let app = TestApp::start();
    for (path, body) in
        [("/health/live", json!({"status": "live"})), ("/health/ready", json!({"status": "ready"}))]
    {
        let answer = app.get(path);
        assert_eq!((answer.status, answer.json()), (200, body));
    }
    assert_eq!(app.metric("hookkeeper_ready"), 1.0);
}

#[test]
fn a_schema_that_is_not_ours_is_not_ready() {
    let app = TestApp::start();
    let database = rusqlite::Connection::open(app.database()).unwrap();
    let newer = "INSERT INTO refinery_schema_history SELECT 999, name, applied_on, checksum FROM refinery_schema_history LIMIT 1";
    database.execute_batch(newer).unwrap();
    let ready = app.get("/health/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.json()["detail"].as_str().unwrap().contains("schema version: it is 999"), "{ready:?}");
    assert_eq!(app.get("/health/live").status, 200);
}

/// Internal reasons are for the operator only: in the log, with the token, and on the machine itself.
#[test]
fn a_stranger_is_told_that_it_is_not_ready_and_no_more() {
    let app = TestApp::with(&[("WEBHOOK_SECRET", UNSET), ("API_TOKEN", "s3cret")]);
    let ready = |headers: &[(&str, &[u8])]| {
        let answer = app.ask(&request("GET", "/health/ready", headers, b""));
        assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("not_ready")));
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    let reason = "WEBHOOK_SECRET is not set";
    let token: (&str, &[u8]) = ("Authorization", b"Bearer s3cret");
    assert_eq!(ready(&[]), reason);
    for name in ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"] {
        let proxied: (&str, &[u8]) = (name, b"203.0.113.9");
        assert_eq!(ready(&[proxied]), "not ready", "{name}");
        assert_eq!(ready(&[proxied, ("Authorization", b"Bearer wrong")]), "not ready", "{name}");
        assert_eq!(ready(&[proxied, token]), reason, "{name}");
    }
    let line = app.log_line(|line| line["path"] == "/health/ready");
    assert_eq!((&line["level"], &line["error"]), (&json!("ERROR"), &json!(reason)));
}

#[test]
fn without_a_secret_it_lives_is_not_ready_and_receives_nothing() {
    for secret in ["", UNSET] {
        let app = TestApp::with(&[("WEBHOOK_SECRET", secret)]);
        assert_eq!(app.get("/health/live").status, 200);
        let ready = app.get("/health/ready");
        assert_eq!(ready.status, 503);
        assert_eq!(ready.json(), json!({"status": "not_ready", "detail": "WEBHOOK_SECRET is not set"}));
        // HMAC-SHA-256 of the example with an empty key.
        let empty_key = "d9aa5b953b622204e516e620ad188f54e76e47e76e0751857b2bb12cfb0129d6";
        for signature in [sign(EXAMPLE), empty_key.to_owned()] {
            let answer = app.post(&[("X-Signature", signature.as_bytes())], EXAMPLE);
            assert_eq!(answer.status, 503);
            assert!(answer.json()["detail"].is_string() && answer.headers.contains_key("retry-after"));
        }
        assert_eq!(app.total(), 0);
        assert_eq!(app.metric("webhook_requests_total{result=\"unavailable\"}"), 2.0);
        assert_eq!(app.metric("hookkeeper_ready"), 0.0);
        let lines = app.stop();
        let warnings =
            lines.iter().filter(|line| line.contains("WEBHOOK_SECRET") && line.contains("\"WARN\""));
        assert_eq!(warnings.count(), 1);
    }
}
