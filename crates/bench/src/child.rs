//! This binary as a server in a process of its own, so that its memory and its cores are told apart from the
//! load's.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;

use crate::load::LoadError;
use crate::server::StoreKind;

/// A running server on an empty database; it ends with this.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
    _database: TempDir,
}

impl Server {
    /// Starts it with its database in `folder`, and waits until it listens. Each commit takes `flush_extra`
    /// longer than the disk does.
    pub(crate) fn start(
        store: StoreKind,
        folder: &Path,
        flush_extra: Duration,
    ) -> Result<Self, Box<dyn Error>> {
        let database = tempfile::tempdir_in(folder)?;
        let store = store.to_possible_value().ok_or("a store has a name")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["server", "--store", store.get_name(), "--database"])
            .arg(database.path().join("bench.db"))
            .args(["--flush-extra-ms", &flush_extra.as_millis().to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("it has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self { child, addr: line.trim().parse()?, _database: database })
    }

    /// Forgets the peak of its memory up to now (proc(5), `/proc/pid/clear_refs`).
    pub(crate) fn forget_peak(&self) -> io::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")
    }

    /// The most resident memory that it had since, in KiB.
    pub(crate) fn peak_rss_kib(&self) -> Result<u64, LoadError> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        Ok(peak.ok_or("the kernel does not tell VmHWM")?.trim().parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing that anyone wants to keep.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
