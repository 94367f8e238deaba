//! HTTP client that posts webhooks as a sender does, for `send` and `selftest`.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::http::Uri;
use ureq::http::header::LOCATION;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;

use super::Error;
use crate::telemetry::printable::printable;

/// Time for one answer: more than a server needs to give up on a commit that is stuck.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Settings of the server to send webhooks to.
#[derive(clap::Args)]
pub(super) struct Destination {
    /// URL to send to
    #[arg(long, default_value = "http://127.0.0.1:8000/webhook", value_parser = parse_url)]
    pub(super) url: Uri,
    /// PEM file with the certificates of the authorities to trust for an https URL, and no others
    /// [default: the public authorities]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

fn parse_url(text: &str) -> Result<Uri, &'static str> {
    let url: Option<Uri> = text.parse().ok();
    let has_scheme = |url: &Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
    url.filter(has_scheme)
        .ok_or("it must start with http:// or https://, as in http://127.0.0.1:8000/webhook")
}

impl Destination {
    /// Returns an agent that keeps so many connections. It uses the proxy of the environment for other machines, never
    /// for this one.
    ///
    /// # Errors
    /// The file with the authorities can't be read, or has none in it.
    pub(super) fn agent(&self, connections: usize) -> Result<Agent, Error> {
        let mut config = config(connections);
        if is_loopback(self.url.host().unwrap_or_default()) {
            config = config.proxy(None);
        }
        if let Some(path) = &self.ca_file {
            let read = |e: std::io::Error| Error::io(format!("read --ca-file {}", path.display()))(e);
            let pem = fs::read(path).map_err(read)?;
            let mut authorities = Vec::new();
            for item in parse_pem(&pem) {
                if let PemItem::Certificate(certificate) = item.map_err(|e| read(e.into_io()))? {
                    authorities.push(certificate);
                }
            }
            if authorities.is_empty() {
                return Err(Error::Failed(format!(
                    "--ca-file {} contains no PEM certificate",
                    path.display()
                )));
            }
            let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(authorities)));
            config = config.tls_config(tls.build());
        }
        Ok(config.build().new_agent())
    }
}

/// Returns true if a URL's host is this machine. An IPv6 address has brackets there.
fn is_loopback(host: &str) -> bool {
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        // RFC 6761, section 6.3.
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Answer to a webhook.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Target of a redirect.
    pub(super) location: Option<String>,
    /// `X-Webhook-Result`: `created` or `duplicate`.
    pub(super) result: Option<String>,
    pub(super) body: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, printable(&self.body))
    }
}

/// Returns the settings of an agent that keeps so many connections. An answer of any status is an answer, and a
/// redirect is not followed: only the server that a message was sent to may store it.
pub(super) fn config(connections: usize) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .timeout_global(Some(ANSWER_TIME_MAX))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .user_agent(format!("hookkeeper/{}", env!("CARGO_PKG_VERSION")))
}

/// Posts one signed body, once.
///
/// # Errors
/// There was no whole answer: the message may be stored or not.
pub(super) fn post(agent: &Agent, url: &Uri, signature: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
    let mut response = agent
        .post(url)
        .header("X-Signature", signature)
        .header("Content-Type", "application/json")
        .send(body)?;
    let status = response.status().as_u16();
    let header = |name| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned)
    };
    let (location, result) = (header(LOCATION.as_str()), header("x-webhook-result"));
    let body = response.body_mut().read_to_string()?;
    Ok(Answer { status, location, result, body })
}

/// Returns true if the server's certificate is not trusted, which another try does not change.
pub(super) fn is_distrusted(error: &ureq::Error) -> bool {
    let error = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|source| source.downcast_ref()),
        _ => None,
    };
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}
