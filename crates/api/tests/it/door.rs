//! The door: who may ask, where, and how often one may be wrong.

use std::path::Path;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use serde_json::json;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::test_app::{Answer, Connection, EXAMPLE, TestApp, hookkeeper, payload, request, sign, webhook};

const TOKEN: &str = "correct horse";

/// Every endpoint, whether it wants the token, and what it answers without need of one.
pub(crate) const ENDPOINTS: [(&str, &str, bool); 8] = [
    ("GET", "/messages", true),
    ("GET", "/messages?q=x&limit=1", true),
    ("GET", "/stats", true),
    ("GET", "/metrics", true),
    ("GET", "/openapi.json", true),
    ("GET", "/health/live", false),
    ("GET", "/health/ready", false),
    ("POST", "/webhook", false),
];

fn ask(app: &TestApp, method: &str, target: &str, authorization: &[&str]) -> Answer {
    let mut headers: Vec<(&str, &[u8])> =
        authorization.iter().map(|value| ("Authorization", value.as_bytes())).collect();
    let signature = sign(EXAMPLE);
    if method == "POST" {
        headers.push(("X-Signature", signature.as_bytes()));
    }
    app.ask(&request(method, target, &headers, if method == "POST" { EXAMPLE } else { b"" }))
}

#[test]
fn every_endpoint_with_and_without_a_token_set_and_given() {
    let right = format!("Bearer {TOKEN}");
    for is_set in [false, true] {
        let app = TestApp::with(&[("API_TOKEN", if is_set { TOKEN } else { "" })]);
        for (method, target, wants_token) in ENDPOINTS {
            for (given, is_right) in [(&[][..], false), (&["Bearer wrong"], false), (&[right.as_str()], true)]
            {
                let answer = ask(&app, method, target, given);
                let want = if is_set && wants_token && !is_right { 401 } else { 200 };
                assert_eq!(answer.status, want, "{method} {target} {given:?}, token set: {is_set}");
                if want == 401 {
                    assert_eq!(answer.headers["www-authenticate"], "Bearer");
                    assert_eq!(answer.json(), json!({"detail": "missing or wrong bearer token"}));
                }
            }
        }
    }
}

/// A web page whose owner has its name resolve to this machine (DNS rebinding) asks under that name.
#[test]
fn without_a_token_questions_are_answered_only_under_a_name_of_ours() {
    let ask = |app: &TestApp, target: &str, host: &str, authorization: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n\r\n");
        app.ask(head.as_bytes())
    };
    let app = TestApp::with(&[("ALLOWED_HOSTS", "inbox.example, hooks.example")]);
    let open = TestApp::with(&[("API_TOKEN", TOKEN)]);
    for (method, target, is_question) in ENDPOINTS {
        if method == "POST" {
            continue;
        }
        for host in ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "x.inbox.example"] {
            let want = if is_question { 403 } else { 200 };
            let answer = ask(&app, target, host, "");
            assert_eq!(answer.status, want, "{target} {host}");
            if is_question {
                assert!(answer.json()["detail"].as_str().unwrap().contains("ALLOWED_HOSTS"), "{answer:?}");
            }
            let authorization = format!("Bearer {TOKEN}");
            assert_eq!(ask(&open, target, host, &authorization).status, 200, "a token says who asks");
        }
        for host in
            ["127.0.0.1:8000", "[::1]", "localhost:1", "api:8000", "Inbox.Example:443", "hooks.example"]
        {
            assert_eq!(ask(&app, target, host, "").status, 200, "{target} {host}");
        }
    }
    let signed = format!(
        "POST /webhook HTTP/1.1\r\nHost: evil.example\r\nX-Signature: {}\r\nContent-Length: {}\r\n\r\n",
        sign(EXAMPLE),
        EXAMPLE.len()
    );
    let webhook = [signed.as_bytes(), EXAMPLE].concat();
    assert_eq!(app.ask(&webhook).status, 200, "a signature says who sends");
    let line = app.log_line(|line| line["status"] == 403);
    assert!(line["error"].as_str().unwrap().contains("ALLOWED_HOSTS"), "{line}");
}

#[test]
fn only_the_very_token_opens() {
    let app = TestApp::with(&[("API_TOKEN", TOKEN)]);
    for right in ["Bearer correct horse", "bearer correct horse", "BEARER  correct horse "] {
        assert_eq!(ask(&app, "GET", "/stats", &[right]).status, 200, "{right}");
    }
    let twice = ["Bearer correct horse", "Bearer correct horse"];
    for wrong in [
        &["Bearer correct hors"][..],
        &["Bearer correct horse!"],
        &["Bearer Correct horse"],
        &["Bearer"],
        &["Bearer "],
        &["correct horse"],
        &["Basic correct horse"],
        &["Bearer\u{e9}correct horse"],
        &twice,
    ] {
        assert_eq!(ask(&app, "GET", "/stats", wrong).status, 401, "{wrong:?}");
    }
    assert!(app.stop().iter().all(|line| !line.contains(TOKEN)));
}

#[test]
fn the_token_may_be_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "correct horse\r\n").unwrap();
    let app = TestApp::with(&[("API_TOKEN_FILE", file.to_str().unwrap())]);
    assert_eq!(ask(&app, "GET", "/stats", &[]).status, 401);
    assert_eq!(ask(&app, "GET", "/stats", &["Bearer correct horse"]).status, 200);
}

/// White space at the ends of a header's value is not part of it, so that a token with some would match nothing.
#[test]
fn white_space_at_the_ends_of_a_token_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, " \tcorrect horse \n\n").unwrap();
    for variable in [("API_TOKEN", " correct horse\t"), ("API_TOKEN_FILE", file.to_str().unwrap())] {
        let app = TestApp::with(&[variable]);
        assert_eq!(ask(&app, "GET", "/stats", &["Bearer correct horse"]).status, 200, "{variable:?}");
        assert_eq!(ask(&app, "GET", "/stats", &["Bearer correct"]).status, 401, "{variable:?}");
    }
    for (token, told) in [(" ", "only white space"), ("two\nlines", "control character")] {
        let output = hookkeeper(folder.path()).env("API_TOKEN", token).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && stderr.contains(told), "{stderr}");
    }
}

#[test]
fn an_open_door_to_the_network_is_warned_of() {
    let warned = |variables: &[(&str, &str)]| {
        let lines = TestApp::with(variables).stop();
        lines.iter().any(|line| line.contains("\"WARN\"") && line.contains("API_TOKEN is not set"))
    };
    assert!(warned(&[("BIND_ADDR", "0.0.0.0:0")]));
    assert!(!warned(&[("BIND_ADDR", "0.0.0.0:0"), ("API_TOKEN", TOKEN)]));
    assert!(!warned(&[("BIND_ADDR", "0.0.0.0:0"), ("OPS_BIND_ADDR", "127.0.0.1:0")]));
    assert!(!warned(&[]));
}

#[test]
fn with_a_second_listener_only_webhooks_and_health_are_on_the_first() {
    let app = TestApp::with(&[("OPS_BIND_ADDR", "127.0.0.1:0")]);
    let line = app.log_line(|line| line["msg"] == "listening");
    let ops_addr = line["ops_addr"].as_str().unwrap().parse().unwrap();
    for (method, target, is_question) in ENDPOINTS {
        let (first, second) = match (method, is_question) {
            ("POST", _) => (200, 404),
            (_, true) => (404, 200),
            (_, false) => (200, 200),
        };
        let bytes = if method == "POST" { webhook(EXAMPLE) } else { request(method, target, &[], b"") };
        assert_eq!(app.ask(&bytes).status, first, "{target}");
        assert_eq!(Connection::to(ops_addr).ask(&bytes).status, second, "{target}");
    }
    // One process, one store, one log: it ends like any other.
    assert!(app.stop().last().unwrap().contains("stopped"));
}

#[test]
fn too_many_wrong_signatures_of_one_client_are_429_and_a_right_one_is_still_200() {
    let app = TestApp::with(&[("TRUSTED_PROXIES", "127.0.0.0/8")]);
    let mut connection = app.connect();
    let mut wrong = |client: &str| {
        connection.ask(&request("POST", "/webhook", &[("X-Forwarded-For", client.as_bytes())], EXAMPLE))
    };
    let answers: Vec<_> = (0..400).map(|_| wrong("203.0.113.9")).collect();
    let limited: Vec<_> = answers.iter().filter(|a| a.status == 429).collect();
    assert!(answers[..300].iter().all(|a| a.status == 401));
    assert!(limited.len() > 50, "{}", limited.len());
    assert!(limited.iter().all(|a| a.headers["retry-after"].parse::<u64>().unwrap() >= 1));
    assert_eq!(limited[0].json(), json!({"detail": "too many invalid signatures"}));
    assert_eq!(wrong("203.0.113.10").status, 401, "another client is another");
    // The address is no reason to refuse a message.
    let signature = sign(EXAMPLE);
    let headers: [(&str, &[u8]); 2] =
        [("X-Forwarded-For", b"203.0.113.9"), ("X-Signature", signature.as_bytes())];
    assert_eq!(app.post(&headers, EXAMPLE).status, 200);
    let refused = (answers.len() + 1) as f64;
    assert_eq!(app.metric("webhook_requests_total{result=\"invalid_signature\"}"), refused);
}

#[test]
fn every_answer_has_the_security_headers() {
    let app = TestApp::with(&[("API_TOKEN", TOKEN)]);
    for bytes in [
        webhook(EXAMPLE),
        webhook(b"{}"),
        request("GET", "/health/live", &[], b""),
        request("GET", "/stats", &[], b""),
        request("GET", "/nowhere", &[], b""),
        request("PUT", "/webhook", &[], b""),
    ] {
        let answer = app.ask(&bytes);
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ] {
            assert_eq!(answer.headers.get(name).map(String::as_str), Some(value), "{answer:?}");
        }
    }
}

#[test]
fn mistakes_at_the_door_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for (variables, named) in [
        (&[("OPS_BIND_ADDR", "9000")][..], "OPS_BIND_ADDR"),
        (&[("TRUSTED_PROXIES", "10.0.0.0/33")], "TRUSTED_PROXIES"),
        (&[("TRUSTED_PROXIES", "proxy.example")], "TRUSTED_PROXIES"),
        (&[("ALLOWED_HOSTS", "https://inbox.example")], "ALLOWED_HOSTS"),
        (&[("TLS_CERT", "cert.pem")], "TLS_KEY"),
        (&[("TLS_KEY", "key.pem")], "TLS_CERT"),
        (&[("API_TOKEN", "hunter2"), ("API_TOKEN_FILE", "x")], "API_TOKEN_FILE"),
        // It must not open the door.
        (&[("API_TOKEN_FILE", "/dev/null")], "API_TOKEN_FILE"),
        (&[("WEBHOOK_SECRET_FILE", "/dev/zero")], "WEBHOOK_SECRET_FILE"),
        (&[("TLS_CERT", "a.pem"), ("TLS_KEY", "b.pem")], "a.pem"),
    ] {
        let output = hookkeeper(folder.path()).envs(variables.iter().copied()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(named) && !stderr.contains("hunter2"), "{stderr}");
        assert!(folder.path().read_dir().unwrap().next().is_none());
    }
}

#[test]
fn what_is_wrong_with_the_files_of_tls_is_told_by_file_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    renew(folder.path());
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("text", b"nonsense"),
        ("cert.der", cert.der()),
        ("key.der", signing_key.serialized_der()),
        ("encrypted.pem", encrypted.as_bytes()),
        ("other.pem", signing_key.serialize_pem().as_bytes()),
    ] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    for (cert, key, told) in [
        ("missing", "key.pem", "TLS_CERT: cannot read missing: No such file or directory"),
        (".", "key.pem", "TLS_CERT: cannot read .: Is a directory"),
        ("empty", "key.pem", "TLS_CERT: empty is empty"),
        ("text", "key.pem", "TLS_CERT: text contains no PEM certificate"),
        ("key.pem", "key.pem", "TLS_CERT: key.pem contains no PEM certificate"),
        ("cert.der", "key.pem", "`openssl x509 -inform der -in cert.der`"),
        ("cert.pem", "missing", "TLS_KEY: cannot read missing: No such file or directory"),
        ("cert.pem", "empty", "TLS_KEY: empty is empty"),
        ("cert.pem", "cert.pem", "TLS_KEY: cert.pem contains no PEM private key"),
        ("cert.pem", "key.der", "`openssl pkey -inform der -in key.der`"),
        ("cert.pem", "encrypted.pem", "`openssl pkey -in encrypted.pem`"),
        ("cert.pem", "other.pem", "cannot use TLS_CERT cert.pem with TLS_KEY other.pem"),
    ] {
        let output = hookkeeper(folder.path()).envs([("TLS_CERT", cert), ("TLS_KEY", key)]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && stderr.contains(told), "{told}: {stderr}");
    }
}

/// Writes a new certificate for `localhost` and returns a client that trusts it and no other.
pub(crate) fn renew(folder: &Path) -> ureq::Agent {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    let trusted = Certificate::from_pem(cert.pem().as_bytes()).unwrap();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[trusted])).build();
    ureq::Agent::config_builder().tls_config(tls).max_idle_connections(0).build().new_agent()
}

#[test]
fn tls_is_served_and_a_renewed_certificate_is_taken_up_on_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let first = renew(folder.path());
    let app = TestApp::with(&[("TLS_CERT", &cert), ("TLS_KEY", &key)]);
    let url = format!("https://localhost:{}/health/ready", app.addr.port());
    assert_eq!(first.get(&url).call().unwrap().status(), 200);

    let check = hookkeeper(folder.path())
        .args(["healthcheck", "--bind-addr", &app.addr.to_string()])
        .envs([("TLS_CERT", &cert), ("TLS_KEY", &key)])
        .status();
    assert_eq!(check.unwrap().code(), Some(0));

    // A broken pair is not taken up.
    std::fs::write(&key, "nonsense").unwrap();
    app.signal(Signal::HUP);
    let line = app.log_line(|line| line["level"] == "ERROR");
    assert!(line["error"].as_str().unwrap().contains("TLS_KEY"), "{line}");
    assert_eq!(first.get(&url).call().unwrap().status(), 200);

    let second = renew(folder.path());
    assert!(second.get(&url).call().is_err());
    app.signal(Signal::HUP);
    app.log_line(|line| line["msg"] == "reloaded TLS_CERT and TLS_KEY");
    assert_eq!(second.get(&url).call().unwrap().status(), 200);

    // When it ends is a metric: rcgen's certificates do in the year 4096.
    let url = url.replace("/health/ready", "/metrics");
    let metrics = second.get(&url).call().unwrap().body_mut().read_to_string().unwrap();
    let expiry =
        format!("hookkeeper_tls_certificate_expiry_timestamp_seconds{{file=\"{cert}\"}} 67090118400");
    assert!(metrics.lines().any(|line| line == expiry), "{metrics}");
}

/// A TLS record has up to 16 KiB, of which a connection reads a part at once: the rest must not be left behind.
#[test]
fn bodies_of_all_sizes_come_in_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let client = renew(folder.path());
    let app = TestApp::with(&[("TLS_CERT", &path("cert.pem")), ("TLS_KEY", &path("key.pem"))]);
    let url = format!("https://localhost:{}/webhook", app.addr.port());
    for size in [0, 400, 600, 1024, 2048, 15_000, 16_384, 100_000, 1_000_000] {
        let body = payload(&json!({"message_id": size.to_string(), "padding": "x".repeat(size)})).to_string();
        let answer = client.post(&url).header("X-Signature", sign(body.as_bytes())).send(&body);
        assert_eq!(answer.unwrap().status(), 200, "{size}");
    }
}

#[test]
fn sighup_without_tls_changes_nothing() {
    let app = TestApp::start();
    app.signal(Signal::HUP);
    app.log_line(|line| line["msg"] == "nothing to reload");
    assert_eq!(app.get("/health/ready").status, 200);
}
