//! Section 7: the log.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::test_app::{
    Connection, EXAMPLE, EXAMPLE_SIGNATURE, SECRET, TestApp, hookkeeper, request, sign, wait_for,
};

fn keys(line: &Value) -> BTreeSet<&str> {
    line.as_object().unwrap().keys().map(String::as_str).collect()
}

const BASE: [&str; 7] = ["ts", "level", "request_id", "method", "path", "status", "latency_ms"];

#[test]
fn a_webhook_line_has_the_keys_of_the_contract() {
    let app = TestApp::start();
    let answer = app.receive(EXAMPLE);
    let line = app.log_line(|line| line["path"] == "/webhook");
    assert_eq!(keys(&line), [&BASE[..], &["message_id", "dup", "result"]].concat().into_iter().collect());
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["request_id"], answer.headers["x-request-id"]);
    assert_eq!((&line["method"], &line["status"]), (&json!("POST"), &json!(200)));
    assert_eq!(
        (&line["message_id"], &line["dup"], &line["result"]),
        (&json!("m1"), &json!(false), &json!("created"))
    );
    assert!(line["latency_ms"].as_f64().unwrap() > 0.0);
    let ts = line["ts"].as_str().unwrap();
    assert!(ts.len() == 24 && ts.ends_with('Z'), "{ts}");

    app.receive(EXAMPLE);
    let line = app.log_line(|line| line["path"] == "/webhook");
    assert_eq!(
        (&line["message_id"], &line["dup"], &line["result"]),
        (&json!("m1"), &json!(true), &json!("duplicate"))
    );
}

#[test]
fn every_request_has_one_line_and_there_is_nothing_else() {
    let app = TestApp::with(&[("LOG_LEVEL", "DEBUG")]);
    let mut ids = BTreeSet::new();
    for n in 0..20 {
        ids.insert(app.get("/health/live").headers["x-request-id"].clone());
        ids.insert(app.receive_with(&json!({"message_id": n.to_string()})).headers["x-request-id"].clone());
        ids.insert(app.get("/nowhere").headers["x-request-id"].clone());
        ids.insert(app.ask(&request("PUT", "/webhook", &[], b"")).headers["x-request-id"].clone());
    }
    assert_eq!(ids.len(), 80, "request ids are unique");
    let lines: Vec<Value> = app.stop().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (requests, others): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|l| l.get("request_id").is_some());
    let logged: BTreeSet<String> =
        requests.iter().map(|l| l["request_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((requests.len(), logged), (80, ids));
    let messages: Vec<&str> = others.iter().map(|l| l["msg"].as_str().unwrap()).collect();
    assert!(messages[0].starts_with("WEBHOOK_SECRET is well known"), "{messages:?}");
    assert_eq!(messages[1..], ["retention", "listening", "stopping", "stopped"]);
    assert!(others.iter().all(|l| l["ts"].is_string() && l["level"].is_string()));
}

#[test]
fn the_message_id_is_null_until_the_signature_holds() {
    let app = TestApp::start();
    app.post(&[("X-Signature", sign(b"other").as_bytes())], EXAMPLE);
    let line = app.log_line(|line| line["path"] == "/webhook");
    assert_eq!(
        (&line["message_id"], &line["dup"], &line["result"]),
        (&json!(null), &json!(false), &json!("invalid_signature"))
    );
    assert_eq!((&line["level"], &line["error"]), (&json!("ERROR"), &json!("signature does not match")));

    app.receive_with(&json!({"ts": "never"}));
    let line = app.log_line(|line| line["path"] == "/webhook");
    assert_eq!((&line["message_id"], &line["result"]), (&json!("m1"), &json!("validation_error")));
    assert_eq!((&line["level"], &line["error"]), (&json!("WARN"), &json!("payload is not valid: ts")));
}

#[test]
fn a_sender_cannot_forge_a_line() {
    let app = TestApp::start();
    let forged = "m\"}\n{\"level\":\"INFO\",\"msg\":\"forged\"}\r\u{2028}\u{0}";
    app.store(&json!({ "message_id": forged }));
    app.get("/%0a%7b%22msg%22:%22forged%22%7d");
    app.get("/\"},{\"msg\":\"forged");
    let lines: Vec<Value> = app.stop().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["msg"] != "forged"));
    assert_eq!(lines.iter().filter(|line| line["message_id"] == forged).count(), 1);
}

#[test]
fn no_secret_no_digest_no_text_is_in_any_line() {
    let app = TestApp::start();
    app.receive(EXAMPLE);
    app.receive_with(&json!({"text": "Hello", "ts": "Hello"}));
    app.receive_with(&json!({"message_id": "m2", "Hello": 1}));
    assert_eq!(app.receive(b"{\"Hello\":1,\"Hello\":2}").status, 422);
    app.post(&[("X-Signature", EXAMPLE_SIGNATURE.as_bytes())], b"Hello");
    app.get("/messages?q=Hello");
    app.get("/messages?limit=Hello");
    for line in app.stop() {
        for private in [SECRET, EXAMPLE_SIGNATURE, "Hello"] {
            assert!(!line.contains(private), "{private} in {line}");
        }
    }
}

#[test]
fn a_long_path_or_method_is_cut() {
    let app = TestApp::start();
    app.get(&format!("/{}", "x".repeat(2000)));
    let line = app.log_line(|line| line["status"] == 404);
    assert_eq!(line["path"].as_str().unwrap().len(), 256);
    app.ask(&request(&"M".repeat(60_000), "/webhook", &[], b""));
    let line = app.log_line(|line| line["status"] == 405);
    assert_eq!(line["method"], "M".repeat(32));
}

/// `journalctl -o cat` and `less` hand a line to a terminal as it stands.
#[test]
fn no_character_of_a_line_acts_on_what_shows_it() {
    let app = TestApp::start();
    let id = "\u{1b}[2J \u{7f}\u{9b}31m \u{85}\u{2028}\u{2029} \u{202e}olleh\u{2066} \u{200b}\u{feff}\u{e0001} नमस्ते 😀";
    app.store(&json!({ "message_id": id }));
    let lines = app.stop();
    let line = lines.iter().find(|line| line.contains("created")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(line).unwrap()["message_id"], id);
    assert!(
        line.ends_with(r#"olleh\u2066 \u200b\ufeff\udb40\udc01 नमस्ते 😀","dup":false,"result":"created"}"#),
        "{line}"
    );
    assert!(!line.chars().any(|c| c.is_control() || "\u{2028}\u{2029}\u{202e}\u{2066}\u{200b}".contains(c)));
}

#[test]
fn the_level_chooses_the_lines() {
    let levels = [
        ("DEBUG", &[200, 200, 200, 404, 401][..]),
        ("INFO", &[200, 404, 401]),
        ("warn", &[404, 401]),
        ("Error", &[401]),
    ];
    for (n, (level, statuses)) in levels.into_iter().enumerate() {
        // An address of this test's own, so that no other takes the port.
        let addr = format!("127.77.0.{}:8000", n + 1);
        let app = TestApp::with(&[("LOG_LEVEL", level), ("BIND_ADDR", &addr)]);
        // Probes that find nothing wrong are for DEBUG.
        app.get("/health/live");
        app.get("/health/ready");
        app.get("/stats");
        app.get("/nowhere");
        app.post(&[], b"");
        let lines = app.stop();
        let status = |line: &String| serde_json::from_str::<Value>(line).unwrap()["status"].as_u64();
        let logged: Vec<u64> = lines.iter().filter_map(status).collect();
        assert_eq!(logged, statuses, "{level}");
    }
}

/// Whom to block, or whom to tell: the address is that of the client, not of the proxy in front. The contract wants
/// ERROR for a wrong signature.
#[test]
fn the_line_of_a_refusal_names_the_client() {
    let app = TestApp::with(&[("TRUSTED_PROXIES", "127.0.0.0/8"), ("API_TOKEN", "s3cret")]);
    let from: (&str, &[u8]) = ("X-Forwarded-For", b"198.51.100.7, 203.0.113.9");
    let mut connection = app.connect();
    for _ in 0..400 {
        connection.ask(&request("POST", "/webhook", &[from], b""));
    }
    for (status, level) in [(401, "ERROR"), (429, "WARN")] {
        let line = app.log_line(|line| line["status"] == status);
        assert_eq!(
            (&line["client"], &line["level"], &line["result"]),
            (&json!("203.0.113.9"), &json!(level), &json!("invalid_signature"))
        );
    }
    app.ask(&request("GET", "/stats", &[from], b""));
    let line = app.log_line(|line| line["path"] == "/stats");
    assert_eq!(
        (&line["status"], &line["client"], &line["level"]),
        (&json!(401), &json!("203.0.113.9"), &json!("WARN"))
    );
    app.receive(EXAMPLE);
    app.get("/nowhere");
    let lines: Vec<Value> = app.stop().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().filter(|line| line["status"] == 200 || line["status"] == 404).count() == 2);
    assert!(lines.iter().all(|line| line.get("client").is_none()), "who is not refused is not named");
}

/// Goal: more is seen of a service that must not be restarted, and less again.
#[test]
fn sigusr1_turns_debug_on_and_off() {
    let app = TestApp::start();
    let is_logged = || {
        let id = app.get("/health/live").headers["x-request-id"].clone();
        app.get("/stats");
        app.log_line(|line| line["path"] == "/stats" || line["request_id"] == id)["path"] == "/health/live"
    };
    assert!(!is_logged());
    for (level, want) in [("DEBUG", true), ("INFO", false), ("DEBUG", true)] {
        app.signal(Signal::USR1);
        app.log_line(|line| line["msg"] == format!("log level {level} from now on"));
        // The line of the first is still there to be read.
        assert_eq!(is_logged(), want, "{level}");
        if want {
            app.log_line(|line| line["path"] == "/stats");
        }
    }
}

/// A service that logs to where the test wants it to, on an address of the test's own: the log does not tell.
struct LoggingTo {
    child: Child,
    addr: SocketAddr,
    _folder: TempDir,
}

impl LoggingTo {
    fn start(stdout: impl Into<Stdio>, addr: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = hookkeeper(folder.path());
        let child = command.env("BIND_ADDR", addr).env("WEBHOOK_SECRET", SECRET).stdout(stdout).spawn();
        Self { child: child.unwrap(), addr: wait_for(addr.parse().unwrap()), _folder: folder }
    }

    /// Requests that are 404, each a line of some 400 bytes.
    fn ask(&self, requests: usize) {
        let mut connection = Connection::to(self.addr);
        for n in 0..requests {
            let target = format!("/{n}/{}", "x".repeat(256));
            assert_eq!(connection.ask(&request("GET", &target, &[], b"")).status, 404);
        }
    }

    fn lines_lost(&self) -> u64 {
        let metrics = Connection::to(self.addr).ask(&request("GET", "/metrics", &[], b"")).body;
        let lost = metrics.lines().find_map(|line| line.strip_prefix("hookkeeper_log_lines_lost_total "));
        lost.unwrap().parse().unwrap()
    }

    /// Waits until so many lines were lost: they are written after their requests are answered.
    fn wait_for_lines_lost(&self, lines: u64) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while self.lines_lost() < lines {
            assert!(std::time::Instant::now() < deadline, "lost {} of {lines}", self.lines_lost());
        }
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for LoggingTo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A parent in Node.js hands its child a pipe that does not block. Method: four times as many lines as the pipe holds,
/// of which none is read before all requests are answered.
#[test]
fn a_standard_output_that_does_not_block_gets_every_line_whole() {
    let (reading, writing) = std::io::pipe().unwrap();
    fcntl_setfl(&writing, OFlags::NONBLOCK).unwrap();
    let app = LoggingTo::start(writing, "127.78.0.1:7878");
    app.ask(600);
    let lines = std::thread::spawn(move || BufReader::new(reading).lines().collect::<Result<Vec<_>, _>>());
    assert_eq!(app.lines_lost(), 0);
    app.stop();
    let lines = lines.join().unwrap().unwrap();
    let statuses = lines.iter().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        line["status"].clone()
    });
    assert_eq!(statuses.filter(|status| *status == 404).count(), 600);
}

#[test]
fn a_log_on_a_full_disk_or_a_closed_pipe_loses_lines_and_counts_them() {
    let (reading, writing) = std::io::pipe().unwrap();
    drop(reading);
    for (stdout, addr) in [
        (Stdio::from(File::create("/dev/full").unwrap()), "127.78.0.2:7878"),
        (Stdio::from(writing), "127.78.0.3:7878"),
    ] {
        let app = LoggingTo::start(stdout, addr);
        app.ask(100);
        // "listening", too.
        app.wait_for_lines_lost(101);
        app.stop();
    }
}
