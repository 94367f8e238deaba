//! Service under test: the real routes, store, log and metrics, with a port and a folder of its own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use adapters::sqlite::{BATCH_MESSAGES_MAX, SqliteOptions, SqliteStore};
use api::compose::{self, AppSettings};
use api::server::{self, ConnectionLimits, Traffic};
use api::telemetry::log;
use api::telemetry::metrics::Metrics;
use api::transport::open_files::CONNECTIONS_MAX;
use api::transport::tcp;
use serde_json::Value;

/// Key that webhooks are signed with.
pub(crate) const SECRET: &[u8] = b"testsecret";

/// Largest body: small, so that the fuzzer finds larger ones.
pub(crate) const BODY_BYTES_MAX: usize = 8 << 10;

/// Longest time of an answer; a longer one is a hang.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// Most bytes of an error: 32 fields with 64 bytes of each (six times that if each is escaped) and a text for each.
const ERROR_BYTES_MAX: usize = 32 << 10;

const HEADERS_MAX: usize = 32;

/// Running service.
pub(crate) struct Service {
    addr: SocketAddr,
    server: ServerHandle,
    thread: JoinHandle<()>,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Service {
    pub(crate) fn start() -> Self {
        let (started, starting) = mpsc::channel();
        let log = Arc::new(Mutex::default());
        let lines = Lines(Arc::clone(&log));
        let thread = thread::spawn(move || {
            let folder = tempfile::tempdir().unwrap();
            let metrics = Metrics::new().unwrap();
            let (log, _guard) = log::start(slog::Level::Debug, lines, metrics.log_lines_lost()).unwrap();
            actix_web::rt::System::new().block_on(async {
                let store = Arc::new(
                    SqliteStore::open(SqliteOptions {
                        path: folder.path().join("app.db"),
                        batch_messages_max: BATCH_MESSAGES_MAX,
                        on_commit: Box::new(|_| {}),
                        on_event: Arc::new(|_| {}),
                    })
                    .unwrap(),
                );
                let settings = AppSettings {
                    webhook_secret: Some(SECRET.to_vec().into()),
                    api_token: None,
                    trusted_proxies: vec![],
                    allowed_hosts: vec![],
                    body_bytes_max: BODY_BYTES_MAX,
                };
                let app = compose::app(settings, Arc::clone(&store), log, metrics);
                let listener = tcp::bind(([127, 0, 0, 1], 0).into()).unwrap();
                let addr = listener.local_addr().unwrap();
                let limits = ConnectionLimits { all_max: CONNECTIONS_MAX, client_max: CONNECTIONS_MAX };
                let server = server::serve(app, listener, Traffic::All, None, limits).unwrap();
                started.send((addr, server.handle())).unwrap();
                server.await.unwrap();
                store.close().await;
            });
        });
        let (addr, server) = starting.recv().unwrap();
        Self { addr, server, thread, log }
    }

    /// Sends only these bytes, on a new connection, and returns all answers.
    pub(crate) fn ask(&self, bytes: &[u8]) -> Vec<Answer> {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
        // The service may refuse and close before it has read all.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut received = Vec::new();
        if let Err(e) = stream.read_to_end(&mut received) {
            assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "no answer in {ANSWER_TIME_MAX:?}");
        }
        let mut rest = &received[..];
        let mut answers = Vec::new();
        while !rest.is_empty() {
            let (answer, end) = Answer::read(rest);
            answer.check();
            answers.push(answer);
            rest = end;
        }
        answers
    }

    /// Stops the service and returns its log, every line of which is JSON.
    pub(crate) fn stop(self) -> Vec<Value> {
        drop(self.server.stop(false));
        self.thread.join().unwrap();
        let log = self.log.lock().unwrap();
        let log = str::from_utf8(&log).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Writer of the log.
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    /// Returns the first answer, and the bytes after it.
    fn read(bytes: &[u8]) -> (Self, &[u8]) {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = head.parse(bytes).unwrap() else {
            panic!("half a head: {}", String::from_utf8_lossy(bytes));
        };
        let headers: BTreeMap<String, String> = head
            .headers
            .iter()
            .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8(h.value.to_vec()).unwrap()))
            .collect();
        let rest = &bytes[head_bytes..];
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        // The answer to HEAD has the length of a body, but no body.
        let is_head = rest.is_empty() || rest.starts_with(b"HTTP/1.");
        let (body, rest) = rest.split_at(if is_head { 0 } else { length });
        let body = String::from_utf8(body.to_vec()).unwrap();
        (Self { status: head.code.unwrap(), headers, body }, rest)
    }

    /// Checks the rules of every answer.
    fn check(&self) {
        assert!(matches!(self.status, 100 | 200 | 400..500), "{self:?}");
        let is_ours = self.headers.contains_key("x-request-id");
        if !is_ours {
            assert_eq!(self.status, 100, "{self:?}");
            assert!(self.body.is_empty(), "{self:?}");
        } else if self.status >= 400 {
            let body_bytes: usize = self.headers["content-length"].parse().unwrap();
            assert!((1..=ERROR_BYTES_MAX).contains(&body_bytes), "{self:?}");
        }
        if self.status >= 400 && !self.body.is_empty() {
            let detail = &self.json()["detail"];
            assert!(detail.is_string() || detail.is_array(), "{self:?}");
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}
