//! This binary as a server in a process of its own, so that its memory and its cores are told apart from the
//! load's.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use procfs::process::Process;
use tempfile::TempDir;

use crate::BenchError;
use crate::server::StoreKind;

/// A running server; it is killed with this.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
    /// Of its database, if nobody wants to keep that.
    _folder: Option<TempDir>,
}

/// Resources that a server used since it started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Time on the cores, to the kernel's hundredth of a second.
    pub(crate) cpu: Duration,
    /// What it wrote to its files: proc(5), `wchar` of `/proc/pid/io`. (`write_bytes` there counts a file's
    /// whole large folio, up to megabytes, for each page that is written: `folio_account_dirtied` in Linux,
    /// mm/page-writeback.c.) Sockets are not in it, since they are not written to with write(2).
    pub(crate) written_bytes: u64,
    /// Resident memory now.
    pub(crate) rss_kib: u64,
    /// The most resident memory that it had since [`forget_peak`](Server::forget_peak).
    pub(crate) peak_rss_kib: u64,
}

impl Server {
    /// Starts it on an empty database in `folder`, and waits until it listens. Each commit takes `flush_extra`
    /// longer than the disk does.
    pub(crate) fn on_empty(
        store: StoreKind,
        folder: &Path,
        flush_extra: Duration,
    ) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir_in(folder)?;
        let mut command = command(store, &folder.path().join("bench.db"))?;
        command.args(["--flush-extra-ms", &flush_extra.as_millis().to_string()]);
        Self::start(command, Some(folder))
    }

    /// Starts the product on a database, and waits until it listens.
    pub(crate) fn on(database: &Path) -> Result<Self, BenchError> {
        Self::start(command(StoreKind::Group, database)?, None)
    }

    /// The same, and at once it begins to remove what arrived before a time.
    pub(crate) fn expiring(database: &Path, n_messages: u64) -> Result<Self, BenchError> {
        let mut command = command(StoreKind::Group, database)?;
        command.args(["--messages-to", &n_messages.to_string()]);
        Self::start(command, None)
    }

    fn start(mut command: Command, folder: Option<TempDir>) -> Result<Self, BenchError> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("it has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let addr = line.trim().parse().map_err(|_| format!("the server did not start: {line}"))?;
        Ok(Self { child, addr, _folder: folder })
    }

    /// Forgets the peak of its memory up to now (proc(5), `/proc/pid/clear_refs`).
    pub(crate) fn forget_peak(&self) -> io::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")
    }

    pub(crate) fn usage(&self) -> Result<Usage, BenchError> {
        let process = Process::new(self.child.id().try_into()?)?;
        let (stat, status) = (process.stat()?, process.status()?);
        let ticks = (stat.utime + stat.stime) as f64;
        Ok(Usage {
            cpu: Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64),
            written_bytes: process.io()?.wchar,
            rss_kib: status.vmrss.ok_or("the kernel does not tell VmRSS")?,
            peak_rss_kib: status.vmhwm.ok_or("the kernel does not tell VmHWM")?,
        })
    }
}

fn command(store: StoreKind, database: &Path) -> Result<Command, BenchError> {
    let store = store.to_possible_value().ok_or("a store has a name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["server", "--store", store.get_name(), "--database"]).arg(database);
    Ok(command)
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it has answered is on disk.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
