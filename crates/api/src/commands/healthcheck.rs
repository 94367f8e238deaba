//! `hookkeeper healthcheck`: checks that a running server is ready.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ureq::tls::TlsConfig;

use super::Error;
use crate::config::{BindArgs, Settings, TlsArgs};
use crate::telemetry::printable::printable;
use crate::transport::listener::Address;

/// Time for the answer: less than the five seconds that a container's health check usually has.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(4);

/// Most bytes that are read of an answer on a unix socket.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Check that the server on this machine is ready: exit code 0 if it is, else 1.
///
/// Made for containers without curl. It connects to the address on which `serve` listens with the same settings.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    bind: BindArgs,
    #[command(flatten)]
    tls: TlsArgs,
}

/// # Errors
/// It is not ready, or does not answer.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut settings = Settings::default();
    let addr = settings.bind_addr(&args.bind);
    let is_tls = settings.tls(&args.tls).is_some();
    let addr = settings.or_mistakes(addr)?;
    let no = |why: String| Error::Failed(format!("not ready: {why}"));
    let (status, body) = match &addr {
        Address::Tcp(tcp) => ask_tcp(*tcp, is_tls),
        Address::Unix(path) => ask_unix(path).map_err(|e| e.to_string()),
    }
    .map_err(|e| no(format!("{addr}: {e}")))?;
    if status == 200 { Ok(()) } else { Err(no(format!("{status} {}", printable(&body)))) }
}

fn ask_tcp(mut addr: SocketAddr, is_tls: bool) -> Result<(u16, String), String> {
    // "Every address" is where to listen, not where to connect.
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_TIME_MAX))
        .http_status_as_error(false)
        .proxy(None)
        // The certificate has the name that senders know, not this address; whom we ask is this machine.
        .tls_config(TlsConfig::builder().disable_verification(true).build())
        .build()
        .new_agent();
    let scheme = if is_tls { "https" } else { "http" };
    let url = format!("{scheme}://{addr}/health/ready");
    let mut response = agent.get(&url).call().map_err(|e| e.to_string())?;
    let body = response.body_mut().read_to_string().unwrap_or_default();
    Ok((response.status().as_u16(), body))
}

/// Sends one request to a unix socket, which the HTTP client can't do.
fn ask_unix(path: &Path) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
