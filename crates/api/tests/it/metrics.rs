//! Section 6: `GET /metrics`.

use std::io::Write;
use std::process::{Command, Stdio};

use prometheus_parse::{Scrape, Value};
use serde_json::json;

use crate::test_app::{EXAMPLE, TestApp, hookkeeper, request, skipped};

fn scrape(app: &TestApp) -> Scrape {
    let text = app.get("/metrics").body;
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |s: &&prometheus_parse::Sample| {
        s.metric == name && labels.iter().all(|(label, value)| s.labels.get(label) == Some(value))
    };
    match scrape.samples.iter().filter(has).map(|s| &s.value).collect::<Vec<_>>()[..] {
        [Value::Counter(n) | Value::Gauge(n) | Value::Untyped(n)] => *n,
        ref other => panic!("{name} {labels:?}: {other:?}"),
    }
}

#[test]
fn a_real_parser_reads_every_metric_of_the_contract() {
    let app = TestApp::start();
    app.store(&json!({}));
    app.get("/messages?limit=0");
    let answer = app.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.headers["content-type"].starts_with("text/plain; version=0.0.4"), "{answer:?}");

    let scrape = scrape(&app);
    assert_eq!(value(&scrape, "http_requests_total", &[("path", "/webhook"), ("status", "200")]), 1.0);
    assert_eq!(value(&scrape, "http_requests_total", &[("path", "/messages"), ("status", "422")]), 1.0);
    assert_eq!(value(&scrape, "webhook_requests_total", &[("result", "created")]), 1.0);
    assert_eq!(value(&scrape, "request_latency_ms_count", &[]), 3.0);
    assert!(value(&scrape, "request_latency_ms_sum", &[]) > 0.0);
    let latency = scrape.samples.iter().find(|s| s.metric == "request_latency_ms").unwrap();
    let Value::Histogram(buckets) = &latency.value else { panic!("{latency:?}") };
    let bounds: Vec<f64> = buckets.iter().map(|b| b.less_than).collect();
    for bound in [0.1, 0.25, 0.5, 1.0, 100.0, 500.0, f64::INFINITY] {
        assert!(bounds.contains(&bound), "{bounds:?}");
    }
    for name in [
        "hookkeeper_build_info",
        "hookkeeper_ready",
        "hookkeeper_commit_batch_messages_count",
        "hookkeeper_commit_seconds_count",
        "hookkeeper_store_bytes",
        "hookkeeper_wal_bytes",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    ] {
        assert!(value(&scrape, name, &[]) > 0.0, "{name}");
    }
    assert_eq!(value(&scrape, "hookkeeper_queue_depth", &[]), 0.0);
    assert_eq!(value(&scrape, "hookkeeper_commit_failures_total", &[]), 0.0);
}

#[test]
fn there_is_exactly_one_webhook_result_per_post_and_none_for_anything_else() {
    let app = TestApp::start();
    app.receive(EXAMPLE);
    app.receive(EXAMPLE);
    app.receive(b"{}");
    app.post(&[], EXAMPLE);
    app.receive(&vec![b'x'; 2 << 20]);
    app.get("/webhook");
    app.get("/stats");
    let scrape = scrape(&app);
    let count = |result| value(&scrape, "webhook_requests_total", &[("result", result)]);
    for result in ["created", "duplicate", "validation_error", "invalid_signature", "too_large"] {
        assert_eq!(count(result), 1.0, "{result}");
    }
    assert_eq!(count("unavailable") + count("incomplete"), 0.0);
}

#[test]
fn a_scanner_makes_no_series() {
    let app = TestApp::start();
    let n_series =
        |scrape: &Scrape| scrape.samples.iter().filter(|s| s.metric == "http_requests_total").count();
    let before = n_series(&scrape(&app));
    for n in 0..50 {
        app.get(&format!("/wp-admin/{n}"));
        app.get(&format!("/stats/{n}"));
        app.ask(&request(&format!("METHOD{n}"), "/stats", &[], b""));
    }
    let scrape = scrape(&app);
    assert_eq!(value(&scrape, "http_requests_total", &[("path", "unknown"), ("status", "404")]), 100.0);
    assert_eq!(value(&scrape, "http_requests_total", &[("path", "/stats"), ("status", "405")]), 50.0);
    assert_eq!(n_series(&scrape), before + 1, "405 of /stats");
}

/// Method: the script that `make lint` runs too, here with the metrics of a running service.
#[test]
fn dashboard_and_alerts_ask_only_for_metrics_that_exist() {
    let app = TestApp::start();
    app.store(&json!({}));
    let metrics = app.folder().path().join("metrics.txt");
    std::fs::write(&metrics, app.get("/metrics").body).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/check.sh");
    let output = Command::new(script).arg(&metrics).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    for line in said.lines().filter(|line| line.starts_with("skipped: ")) {
        skipped(&line["skipped: ".len()..]);
    }
}

/// Prometheus' own linter, where it is installed. Its one complaint is about the contract's own
/// millisecond name.
#[test]
fn promtool_has_nothing_to_complain_of() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        skipped("promtool is not installed (Debian's package prometheus)");
        return;
    };
    let app = TestApp::start();
    app.store(&json!({}));
    let text = app.get("/metrics").body;
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    let complaints: Vec<&str> =
        said.lines().filter(|line| !line.starts_with("request_latency_ms ")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// `increase()` does not see the first count of a series that is born with it.
#[test]
fn every_answer_that_is_documented_has_a_series_from_the_start() {
    let app = TestApp::start();
    let scrape = scrape(&app);
    for (path, status) in [
        ("/webhook", "200"),
        ("/webhook", "401"),
        ("/webhook", "503"),
        ("/messages", "503"),
        ("/health/ready", "503"),
        ("unknown", "404"),
    ] {
        assert_eq!(
            value(&scrape, "http_requests_total", &[("path", path), ("status", status)]),
            0.0,
            "{path} {status}"
        );
    }
}

#[test]
fn the_latency_of_webhooks_is_theirs_alone() {
    let app = TestApp::start();
    app.receive(EXAMPLE);
    app.post(&[], EXAMPLE);
    app.get("/health/ready");
    app.get("/messages");
    let scrape = scrape(&app);
    assert_eq!(value(&scrape, "hookkeeper_webhook_seconds_count", &[]), 2.0);
    assert!(value(&scrape, "request_latency_ms_count", &[]) >= 4.0);
}

#[test]
fn the_last_backup_is_told_once_there_is_one() {
    let app = TestApp::start();
    let last_backup = || app.metric("hookkeeper_last_backup_timestamp_seconds");
    assert_eq!(last_backup(), 0.0);
    let folder = app.folder();
    let now = || std::fs::metadata(app.database()).unwrap().modified().unwrap();
    app.store(&json!({}));
    let output = hookkeeper(folder.path()).args(["backup", "backup.db"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let secs = now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((last_backup() - secs).abs() < 60.0, "{} {secs}", last_backup());
}

#[test]
fn the_size_of_the_store_is_that_of_all_its_files() {
    let app = TestApp::start();
    app.store(&json!({}));
    let size = |suffix: &str| {
        let path = format!("{}{suffix}", app.database().display());
        std::fs::metadata(path).map_or(0, |m| m.len()) as f64
    };
    let told = app.metric("hookkeeper_store_bytes");
    assert!(told >= size("") + size("-wal") + size("-search"), "{told}");
    assert!(size("-wal") > 0.0 && size("-search") > 0.0);
}
