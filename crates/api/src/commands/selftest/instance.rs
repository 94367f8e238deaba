//! The private instance: a process of this same program, on a database of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use ureq::Agent;

use super::super::Error;

/// Time for an instance to be ready: it has at most one life's write-ahead log to read.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// The database, in the folder of the run.
const DATABASE: &str = "app.db";

/// Settings with which every instance of a run is started.
pub(super) struct Settings {
    /// It is run there, and has its database there.
    pub(super) folder: PathBuf,
    pub(super) secret: String,
}

impl Settings {
    pub(super) fn database(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }
}

/// A running process; it is killed when it is dropped.
pub(super) struct Instance {
    child: Child,
    started: Instant,
    listening: mpsc::Receiver<SocketAddr>,
}

impl Instance {
    /// Starts an instance, and does not wait.
    pub(super) fn spawn(settings: &Settings) -> Result<Self, Error> {
        let started = Instant::now();
        let program = std::env::current_exe().map_err(Error::io("find this program"))?;
        let mut child = Command::new(program)
            .arg("serve")
            // The operator's settings are not for it: neither their database nor their token.
            .env_clear()
            .env("DATABASE_URL", format!("sqlite:///{DATABASE}"))
            .env("WEBHOOK_SECRET", &settings.secret)
            .env("BIND_ADDR", "127.0.0.1:0")
            .current_dir(&settings.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::io("start an instance"))?;
        let log = BufReader::new(child.stdout.take().expect("it is piped"));
        let (send, listening) = mpsc::sync_channel(1);
        // Ends with the process. The log has to be read to its end, or the instance would wait for that.
        thread::spawn(move || {
            for addr in log.lines().map_while(Result::ok).filter_map(|line| address(&line)) {
                // Nobody waits for it any more if the instance was to be killed while it starts.
                let _ = send.send(addr);
            }
        });
        Ok(Self { child, started, listening })
    }

    /// Waits until it says that it is ready; returns where it listens, and how long that took.
    pub(super) fn wait_until_ready(&mut self, agent: &Agent) -> Result<(SocketAddr, Duration), Error> {
        let no = |why: &str| Error::Failed(format!("an instance did not start: {why}"));
        let addr = self.listening.recv_timeout(START_TIME_MAX).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => no("it took too long"),
            mpsc::RecvTimeoutError::Disconnected => no("it ended"),
        })?;
        let mut answer = agent
            .get(format!("http://{addr}/health/ready"))
            .call()
            .map_err(|error| no(&error.to_string()))?;
        if answer.status() != 200 {
            return Err(no(&answer.body_mut().read_to_string().unwrap_or_default()));
        }
        Ok((addr, self.started.elapsed()))
    }

    /// Kills it without warning.
    ///
    /// # Errors
    /// It had exited by itself.
    pub(super) fn kill(mut self) -> Result<(), Error> {
        self.child.kill().map_err(Error::io("kill an instance"))?;
        let status = self.wait()?;
        if status.signal() == Some(Signal::KILL.as_raw()) {
            return Ok(());
        }
        Err(Error::Failed(format!("an instance exited by itself: {status}")))
    }

    /// Stops it as an operator does. It promises to end in time, whatever is stuck.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .map_err(|error| Error::io("stop an instance")(error.into()))?;
        let status = self.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed(format!("an instance did not stop well: {status}")))
    }

    fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().map_err(Error::io("wait for an instance"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the log line that tells it.
fn address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["msg"] == "listening" { line["addr"].as_str()?.parse().ok() } else { None }
}
