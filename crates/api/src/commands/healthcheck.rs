//! `hookkeeper healthcheck`: asks a running server whether it is ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ureq::tls::TlsConfig;

use super::Error;
use crate::config::{BindArgs, ConfigError, TlsArgs};
use crate::printable::printable;

/// Less than the five seconds that a container's health check is usually given.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(4);

/// Ask the server on this machine whether it is ready: exit code 0 if it is, else 1.
///
/// For containers, which have no curl. It asks the address that `serve` with the same settings
/// listens on.
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
    let mut mistakes = ConfigError::default();
    let addr = mistakes.bind_addr(&args.bind);
    let is_tls = mistakes.tls(&args.tls).is_some();
    let mut addr = mistakes.unless_mistaken(addr)?;
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
    let no = |why: String| Error::No(format!("not ready: {why}"));
    let mut response = agent.get(&url).call().map_err(|e| no(format!("{url}: {e}")))?;
    if response.status() == 200 {
        return Ok(());
    }
    let body = response.body_mut().read_to_string().unwrap_or_default();
    Err(no(format!("{} {}", response.status(), printable(&body))))
}
