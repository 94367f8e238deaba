//! The service under test: the real binary on a folder and a port of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use adapters::signature::XSignature;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const SECRET: &str = "testsecret";

/// In place of a variable's value: it is not there at all.
pub(crate) const UNSET: &str = "(unset)";

/// The contract's example, and its signature under [`SECRET`].
pub(crate) const EXAMPLE: &[u8] = br#"{"message_id":"m1","from":"+919876543210","to":"+14155550100","ts":"2025-01-15T10:00:00Z","text":"Hello"}"#;
pub(crate) const EXAMPLE_SIGNATURE: &str = "ff1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb";

/// A test that waits longer than this for an answer has found a hang.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// A command of the binary with nothing of ours in its environment.
pub(crate) fn hookkeeper(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookkeeper"));
    command.env_clear().current_dir(folder);
    command
}

/// Says aloud, past the test runner's capture, what is not tested here and why.
#[expect(clippy::explicit_write, reason = "eprintln! is captured when the test passes")]
pub(crate) fn skipped(why: &str) {
    writeln!(std::io::stderr(), "skipped: {why}").unwrap();
}

/// The plain valid payload with some fields replaced.
pub(crate) fn payload(changes: &Value) -> Value {
    let mut payload: Value = serde_json::from_slice(EXAMPLE).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        payload[key] = value.clone();
    }
    payload
}

pub(crate) fn sign(body: &[u8]) -> String {
    XSignature::new(SECRET.as_bytes()).unwrap().sign(body)
}

/// The bytes of one request.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    let chunked = headers.iter().any(|(name, _)| *name == "Transfer-Encoding");
    if method == "POST" && !chunked {
        write!(bytes, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: ").as_bytes());
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// The bytes of one signed webhook.
pub(crate) fn webhook(body: &[u8]) -> Vec<u8> {
    request("POST", "/webhook", &[("X-Signature", sign(body).as_bytes())], body)
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The target of the next page, as the `Link` header has it; `None` on the last page.
    pub(crate) fn next_page(&self) -> Option<&str> {
        let link = self.headers.get("link")?;
        let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        Some(target.unwrap_or_else(|| panic!("no link to a next page: {link}")))
    }

    /// The fields that a 422 complains of.
    pub(crate) fn broken_fields(&self) -> Vec<String> {
        assert_eq!(self.status, 422, "{self:?}");
        let json = self.json();
        let detail = json["detail"].as_array().unwrap();
        assert!(!detail.is_empty());
        let field = |d: &Value| {
            assert!(d["type"].is_string() && d["msg"].is_string(), "{d}");
            d["loc"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned()
        };
        detail.iter().map(field).collect()
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn to(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).unwrap())
    }

    /// The same from another address of this machine, 127.0.0.`host`.
    pub(crate) fn from(host: u8, addr: SocketAddr) -> Self {
        // Not for the servers that other tests start: they would keep it open.
        let flags = SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        net::bind(&socket, &SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
        net::connect(&socket, &addr).unwrap();
        Self::of(TcpStream::from(socket))
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The server may refuse and close before all is sent; its answer is what counts.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// The next answer; `None` if the connection ends instead.
    pub(crate) fn answer(&mut self, has_body: bool) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
                assert!(head.is_empty(), "half an answer: {head:?}");
                return None;
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        if status == 100 {
            return self.answer(has_body);
        }
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = if has_body { headers["content-length"].parse().unwrap() } else { 0 };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        Some(Answer { status, headers, body: String::from_utf8(body).unwrap() })
    }

    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Answer {
        self.send(bytes);
        self.answer(true).expect("an answer")
    }
}

pub(crate) struct TestApp {
    child: Child,
    pub(crate) addr: SocketAddr,
    folder: Arc<TempDir>,
    lines: Mutex<mpsc::Receiver<String>>,
    reader: Option<JoinHandle<()>>,
}

impl TestApp {
    /// With [`SECRET`] on an empty folder.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same with some variables set otherwise.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()), variables)
    }

    /// The same on a folder that another one used before.
    pub(crate) fn on(folder: Arc<TempDir>, variables: &[(&str, &str)]) -> Self {
        let command = hookkeeper(folder.path());
        Self::run(command, folder, variables)
    }

    /// The same run by another program, which is given its path as the last argument.
    pub(crate) fn under(program: &[&str], folder: Arc<TempDir>) -> Self {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(env!("CARGO_BIN_EXE_hookkeeper")).current_dir(folder.path());
        Self::run(command, folder, &[])
    }

    pub(crate) fn run(mut command: Command, folder: Arc<TempDir>, variables: &[(&str, &str)]) -> Self {
        command.env("WEBHOOK_SECRET", SECRET).env("BIND_ADDR", "127.0.0.1:0").stdout(Stdio::piped());
        for (name, value) in variables {
            match *value {
                UNSET => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        let (send_addr, addr) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let json: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
                if json["msg"] == "listening" {
                    // Nobody waits for it if it was known before.
                    let _ = send_addr.send(json["addr"].as_str().unwrap().parse().unwrap());
                }
                // The test may be over.
                let _ = send.send(line);
            }
        });
        // Below INFO the log does not tell which port it took, so it is told which to take.
        let fixed = variables.iter().find(|(name, value)| *name == "BIND_ADDR" && !value.ends_with(":0"));
        let addr = match fixed {
            Some((_, addr)) => wait_for(addr.parse().unwrap()),
            None => addr.recv_timeout(ANSWER_TIME_MAX).expect("it listens"),
        };
        Self { child, addr, folder, lines: Mutex::new(lines), reader: Some(reader) }
    }

    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("data/app.db")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self.addr)
    }

    pub(crate) fn ask(&self, bytes: &[u8]) -> Answer {
        self.connect().ask(bytes)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask(&request("GET", target, &[], b""))
    }

    /// A POST to the webhook with these headers, whether they sign the body or not.
    pub(crate) fn post(&self, headers: &[(&str, &[u8])], body: &[u8]) -> Answer {
        self.ask(&request("POST", "/webhook", headers, body))
    }

    /// A signed POST of these bytes.
    pub(crate) fn receive(&self, body: &[u8]) -> Answer {
        self.ask(&webhook(body))
    }

    /// A signed POST of the plain payload with some fields replaced.
    pub(crate) fn receive_with(&self, changes: &Value) -> Answer {
        self.receive(payload(changes).to_string().as_bytes())
    }

    /// The same, which must be stored.
    pub(crate) fn store(&self, changes: &Value) {
        let answer = self.receive_with(changes);
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})), "{changes}");
    }

    pub(crate) fn total(&self) -> u64 {
        self.get("/messages?limit=1").json()["total"].as_u64().unwrap()
    }

    /// The ids of a listing, which must be one page.
    pub(crate) fn ids(&self, target: &str) -> Vec<String> {
        let json = self.get(target).json();
        let data = json["data"].as_array().unwrap_or_else(|| panic!("{target}: {json}"));
        data.iter().map(|m| m["message_id"].as_str().unwrap().to_owned()).collect()
    }

    /// One sample of `/metrics`, as in `webhook_requests_total{result="created"}`; 0 if it is not there.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").body;
        let sample = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        sample.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits for the next log line that `wanted` holds for.
    pub(crate) fn log_line(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.lock().unwrap().recv_timeout(ANSWER_TIME_MAX).expect("a log line");
            let line = serde_json::from_str(&line).unwrap();
            if wanted(&line) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the process to end, and returns the log lines that nobody has taken.
    pub(crate) fn end(&mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status, self.lines.lock().unwrap().try_iter().collect())
    }

    /// Stops it as an operator would, and returns all its log lines that nobody has taken.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        let (status, lines) = self.end();
        assert!(status.success(), "{status}");
        lines
    }
}

/// Waits until somebody listens there: for when the log does not tell.
pub(crate) fn wait_for(addr: SocketAddr) -> SocketAddr {
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    while TcpStream::connect(addr).is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {addr}");
        std::thread::yield_now();
    }
    addr
}

impl Drop for TestApp {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
