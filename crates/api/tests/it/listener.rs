//! Listening on a unix socket, and on sockets that systemd opened.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::test_app::{Connection, EXAMPLE, SECRET, hookkeeper, request, webhook};

/// A service with its log, wherever it listens.
struct Service {
    child: Child,
    log: BufReader<ChildStdout>,
}

impl Service {
    /// Runs until it says that it listens.
    fn start(command: &mut Command) -> Self {
        let mut child = command.env("WEBHOOK_SECRET", SECRET).stdout(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        let mut service = Self { child, log };
        service.line(|line| line["msg"] == "listening");
        service
    }

    /// The next line of the log that `wanted` holds for.
    fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "the log ended");
            let line = serde_json::from_str(&line).unwrap();
            if wanted(&line) {
                return line;
            }
        }
    }

    fn stop(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole answer to one request, after which the connection is closed.
fn ask(socket: &Path, method: &str, target: &str, headers: &[(&str, &[u8])]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let close: &[(&str, &[u8])] = &[("Connection", b"close")];
    stream.write_all(&request(method, target, &[headers, close].concat(), b"")).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_is_listened_on_and_goes_with_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("hookkeeper.sock");
    let variables = [("BIND_ADDR", "unix:hookkeeper.sock"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let mut service = Service::start(hookkeeper(folder.path()).envs(variables));
    let mode = socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "for its owner and for a proxy in its group");

    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(&webhook(EXAMPLE)).unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert!(ask(&socket, "GET", "/messages", &[]).contains("\"message_id\":\"m1\""));
    // The proxy in front says who its client is.
    let refused = ask(&socket, "POST", "/webhook", &[("X-Forwarded-For", b"203.0.113.9")]);
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    assert_eq!(service.line(|line| line["status"] == 401)["client"], json!("203.0.113.9"));

    let healthcheck = || hookkeeper(folder.path()).args(["healthcheck"]).envs(variables).output().unwrap();
    assert_eq!(healthcheck().status.code(), Some(0));
    // Nobody takes it away from who listens there.
    let second = hookkeeper(folder.path()).envs(variables).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert!(stderr.contains("cannot listen on unix:hookkeeper.sock: Address already in use"), "{stderr}");

    assert!(service.stop(Signal::TERM).success());
    assert!(!socket.exists());
    let output = healthcheck();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("unix:hookkeeper.sock: No such file or directory"), "{stderr}");
}

#[test]
fn a_socket_that_a_kill_left_behind_is_taken_over_and_another_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let start = || Service::start(hookkeeper(folder.path()).env("BIND_ADDR", "unix:s"));
    start().stop(Signal::KILL);
    assert!(socket.exists());
    assert!(start().stop(Signal::TERM).success());
    std::fs::write(&socket, "mine").unwrap();
    let output = hookkeeper(folder.path()).env("BIND_ADDR", "unix:s").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read(&socket).unwrap(), b"mine");
}

/// Method: a shell stands in for systemd, and passes what it has as standard input, and so on, as descriptors from 3.
fn with_passed(folder: &Path, first: OwnedFd, second: Option<OwnedFd>) -> Command {
    let n = if second.is_some() { 2 } else { 1 };
    let second_fd = if second.is_some() { "4<&2" } else { "" };
    let script = format!("exec 3<&0 {second_fd} </dev/null; LISTEN_FDS={n} LISTEN_PID=$$ exec \"$0\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_hookkeeper")])
        .env_clear()
        .current_dir(folder)
        .stdin(first);
    if let Some(second) = second {
        command.stderr(second);
    }
    command
}

#[test]
fn sockets_that_systemd_opened_are_listened_on_in_place_of_addresses() {
    let folder = tempfile::tempdir().unwrap();
    // Both would be mistakes if they were bound.
    let addresses = [("BIND_ADDR", "192.0.2.1:1"), ("OPS_BIND_ADDR", "192.0.2.1:2")];
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = tcp.local_addr().unwrap();
    let path = folder.path().join("ops.sock");
    let unix = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let mut command = with_passed(folder.path(), tcp.into(), Some(unix.into()));
    let service = Service::start(command.envs(addresses));
    drop(command);
    assert_eq!(Connection::to(addr).ask(&webhook(EXAMPLE)).status, 200);
    assert_eq!(Connection::to(addr).ask(&request("GET", "/stats", &[], b"")).status, 404);
    assert!(ask(&path, "GET", "/stats", &[]).contains("\"total_messages\":1"));
    assert!(ask(&path, "POST", "/webhook", &[]).starts_with("HTTP/1.1 404 "));
    assert!(service.stop(Signal::TERM).success());
    assert!(path.exists(), "it is systemd's");

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = tcp.local_addr().unwrap();
    let mut command = with_passed(folder.path(), tcp.into(), None);
    let service = Service::start(command.env("BIND_ADDR", "192.0.2.1:1"));
    drop(command);
    assert_eq!(Connection::to(addr).ask(&webhook(EXAMPLE)).status, 200);
    assert_eq!(Connection::to(addr).ask(&request("GET", "/stats", &[], b"")).status, 200);
    assert!(service.stop(Signal::TERM).success());
}
