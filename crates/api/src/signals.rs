//! Signals of the operating system, and the promise that the process exits in time.

use std::io::{self, Write};
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

/// From a signal to the end of the process, whatever is stuck: within the ten seconds of the contract.
const STOP_TIME_MAX: Duration = Duration::from_millis(9_500);

/// Signals that the service handles.
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    user1: unix::Signal,
}

/// Request that a signal stands for.
pub(crate) enum Signal {
    /// Stop, by the signal of this name.
    Stop(&'static str),
    /// Reload the certificate.
    Reload,
    /// Switch the log to all lines, or back.
    ToggleDebug,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        // A file that may not grow (`ulimit -f`, `LimitFSIZE=`) is a full disk: the write fails, and the process goes on.
        // tokio handles the signal from now on, whether anybody waits for it or not.
        drop(unix::signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hangup: unix::signal(SignalKind::hangup())?,
            user1: unix::signal(SignalKind::user_defined1())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Signal::Stop("SIGINT"),
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.user1.recv() => Signal::ToggleDebug,
        }
    }
}

/// Ends the process if it has not ended by itself in time, whatever is stuck: a disk, another process's lock,
/// a log that nobody reads.
pub(crate) fn end_in_time() {
    std::thread::spawn(|| {
        std::thread::sleep(STOP_TIME_MAX);
        let secs = STOP_TIME_MAX.as_secs_f32();
        // There may be nobody to read it.
        let _ = writeln!(
            io::stderr(),
            "hookkeeper: did not stop within {secs} s; what was answered 200 is on disk"
        );
        std::process::exit(1);
    });
}
