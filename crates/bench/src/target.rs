//! The program that is shipped, as it is shipped, in a process of its own: what attacks are tried on.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use procfs::process::Process;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;

use crate::BenchError;
use crate::server::SECRET;

/// Lies beside this program.
const PROGRAM: &str = "hookkeeper";

/// Name that certificates are made for.
pub(crate) const TLS_NAME: &str = "localhost";

/// A running server; it is killed with this.
pub(crate) struct Target {
    child: Child,
    pub(crate) addr: SocketAddr,
    /// For who speaks TLS to it, if it does.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    log_bytes: Arc<AtomicU64>,
}

impl Target {
    /// Starts it with its default settings on the database in `folder`, which is made if it is not there.
    pub(crate) fn start(folder: &TempDir, with_tls: bool) -> Result<Self, BenchError> {
        let folder = folder.path();
        let mut command = Command::new(std::env::current_exe()?.with_file_name(PROGRAM));
        command
            .arg("serve")
            .env("DATABASE_URL", format!("sqlite:///{}", folder.join("app.db").display()))
            .env("BIND_ADDR", "127.0.0.1:0")
            .env("WEBHOOK_SECRET", SECRET)
            .stdout(Stdio::piped());
        let tls = if with_tls { Some(make_tls(folder, &mut command)?) } else { None };
        let mut child = command.spawn().map_err(|error| format!("cannot start {PROGRAM}: {error}"))?;
        let mut log = BufReader::new(child.stdout.take().ok_or("it has no standard output")?);
        let addr = read_addr(&mut log);
        let log_bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&log_bytes);
        thread::spawn(move || count(log, &counted));
        let target = Self { child, addr: addr?, tls, log_bytes };
        Ok(target)
    }

    /// The most resident memory that it had, in MiB.
    pub(crate) fn peak_rss_mib(&self) -> Result<f64, BenchError> {
        let status = Process::new(self.child.id().try_into()?)?.status()?;
        Ok(status.vmhwm.ok_or("the kernel does not tell VmHWM")? as f64 / 1024.0)
    }

    /// Returns the bytes that it has logged up to now.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // What it has answered is on disk.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_addr(log: &mut BufReader<ChildStdout>) -> Result<SocketAddr, BenchError> {
    let mut line = String::new();
    while log.read_line(&mut line)? > 0 {
        let json: Value = serde_json::from_str(&line)?;
        if json["msg"] == "listening" {
            return Ok(json["addr"].as_str().ok_or("it does not say where it listens")?.parse()?);
        }
        line.clear();
    }
    Err(format!("{PROGRAM} did not start").into())
}

/// Reads the log, as whoever keeps it would.
fn count(mut log: impl Read, n_bytes: &AtomicU64) {
    let mut part = vec![0; 64 << 10];
    while let Ok(n @ 1..) = log.read(&mut part) {
        n_bytes.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// Gives the server a certificate; returns what a client needs that trusts this one alone.
fn make_tls(folder: &Path, command: &mut Command) -> Result<Arc<ClientConfig>, BenchError> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([TLS_NAME.to_owned()])?;
    for (variable, file, pem) in
        [("TLS_CERT", "cert.pem", cert.pem()), ("TLS_KEY", "key.pem", signing_key.serialize_pem())]
    {
        let path = folder.join(file);
        fs::write(&path, pem)?;
        command.env(variable, path);
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(cert.der().to_vec()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
