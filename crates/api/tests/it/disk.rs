//! A disk of our own under the service: it can be filled, can fail, and its power can be cut.
//!
//! An ext4 file system in a file, behind nbdkit's cache: what is written is in nbdkit's memory, and in the
//! file only after a flush. So whoever kills nbdkit takes away all that was not flushed, as a power cut does to a
//! disk that keeps nothing of its own accord.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::test_app::skipped;

const TOOLS: [&str; 7] = ["nbdkit", "nbdfuse", "fusermount3", "losetup", "mount", "mkfs.ext4", "e2fsck"];

/// For the parts of a disk to come up.
const START_TIME_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Disk {
    folder: Arc<TempDir>,
    // What lies between the file and the mounted file system.
    nbdkit: Option<Child>,
    nbdfuse: Option<Child>,
    loop_device: Option<String>,
}

impl Disk {
    /// An empty one, mounted where a service on its folder keeps its data. `None`, and it is said, if that can't be
    /// had here.
    pub(crate) fn new(mebibytes: u64) -> Option<Self> {
        if let Err(why) = can_make_disks() {
            skipped(&why);
            return None;
        }
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut disk = Self { folder, nbdkit: None, nbdfuse: None, loop_device: None };
        File::create(disk.image()).unwrap().set_len(mebibytes << 20).unwrap();
        // -m 0: nothing is kept back for root.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-m", "0"]).arg(disk.image()));
        fs::create_dir(disk.mounted()).unwrap();
        disk.power_on();
        Some(disk)
    }

    /// The folder of the service: the disk is `data` in it.
    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    pub(crate) fn mounted(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// The image as nbdfuse shows it.
    fn device(&self) -> PathBuf {
        self.folder.path().join("device")
    }

    /// While this file is there, nothing can be written to the device.
    fn fault(&self) -> PathBuf {
        self.folder.path().join("fault")
    }

    /// Lets the device fail whatever is written to it from now on, or no more.
    pub(crate) fn fail_writes(&self, fails: bool) {
        if fails {
            File::create(self.fault()).unwrap();
        } else {
            fs::remove_file(self.fault()).unwrap();
        }
    }

    /// Mounts it anew with this option, while nobody uses it.
    pub(crate) fn remount(&self, option: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(self.mounted()));
    }

    /// From here on nothing that was not flushed is left. Whoever uses the disk gets errors, and must be killed.
    pub(crate) fn cut_power(&self) {
        kill_process(Pid::from_child(self.nbdkit.as_ref().unwrap()), Signal::KILL).unwrap();
    }

    /// After a cut: mounts what the disk has kept.
    pub(crate) fn power_on(&mut self) {
        self.take_apart();
        // 1: it has mended what a cut leaves open.
        let fsck = Command::new("e2fsck").arg("-fy").arg(self.image()).output().unwrap();
        assert!(matches!(fsck.status.code(), Some(0 | 1)), "{fsck:?}");

        let socket = self.folder.path().join("nbd.sock");
        let _ = fs::remove_file(&socket);
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.arg("-f").arg("-U").arg(&socket).args(["--filter=error", "--filter=cache", "file"]);
        nbdkit.arg(self.image()).args(["cache=writeback", "error=EIO", "error-pwrite-rate=100%"]);
        nbdkit.arg(format!("error-pwrite-file={}", self.fault().display()));
        // Both complain of what is done to them.
        self.nbdkit = Some(nbdkit.stderr(Stdio::null()).spawn().unwrap());
        wait_until("nbdkit listens", || UnixStream::connect(&socket).is_ok());

        let device = self.device();
        File::create(&device).unwrap();
        let uri = format!("nbd+unix:///?socket={}", socket.display());
        let mut nbdfuse = Command::new("nbdfuse");
        self.nbdfuse = Some(nbdfuse.arg(&device).arg(uri).stderr(Stdio::null()).spawn().unwrap());
        wait_until("nbdfuse serves", || device.metadata().is_ok_and(|m| m.len() > 0));

        let loop_device = run(Command::new("losetup").args(["--show", "-f"]).arg(&device));
        self.loop_device = Some(loop_device.clone());
        // The kernel flushes a file system every few seconds: that must not save what we did not flush.
        run(Command::new("mount").args(["-o", "commit=300", &loop_device]).arg(self.mounted()));
    }

    /// As much of it as there is. With the power cut some of this fails, and the next step takes down what is left.
    fn take_apart(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.mounted()).output();
        if let Some(loop_device) = self.loop_device.take() {
            let _ = Command::new("losetup").args(["-d", &loop_device]).output();
        }
        let _ = Command::new("fusermount3").args(["-u", "-z"]).arg(self.device()).output();
        for mut process in [self.nbdkit.take(), self.nbdfuse.take()].into_iter().flatten() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.take_apart();
    }
}

fn can_make_disks() -> Result<(), String> {
    let is_there = |tool: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(tool).exists())
    };
    if let Some(tool) = TOOLS.iter().find(|tool| !is_there(tool)) {
        return Err(format!("{tool} is not installed"));
    }
    let may_mount = Command::new("unshare").args(["--mount", "true"]).output();
    if !may_mount.is_ok_and(|o| o.status.success()) {
        return Err("file systems may not be mounted here".to_owned());
    }
    let missing = ["/dev/fuse", "/dev/loop-control"].into_iter().find(|device| !Path::new(device).exists());
    missing.map_or(Ok(()), |device| Err(format!("there is no {device}")))
}

/// Runs a command that must succeed, and returns what it prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + START_TIME_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::yield_now();
    }
}
