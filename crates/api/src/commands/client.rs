//! What posts webhooks as a sender does: for `send` and `selftest`.

use std::fmt;
use std::time::Duration;

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

/// For one answer: more than a server needs that is stuck in a commit and gives up.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// What a webhook was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// `X-Webhook-Result`: `created` or `duplicate`.
    pub(super) result: Option<String>,
    pub(super) body: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}

/// Keeps so many connections; an answer of any status is an answer.
pub(super) fn config(connections: usize) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .timeout_global(Some(ANSWER_TIME_MAX))
        .http_status_as_error(false)
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .user_agent(format!("hookkeeper/{}", env!("CARGO_PKG_VERSION")))
}

/// Posts one signed body, once.
///
/// # Errors
/// There was no whole answer: what became of the message is not known.
pub(super) fn post(agent: &Agent, url: &str, signature: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
    let mut response = agent
        .post(url)
        .header("X-Signature", signature)
        .header("Content-Type", "application/json")
        .send(body)?;
    let status = response.status().as_u16();
    let result = response.headers().get("x-webhook-result").and_then(|v| v.to_str().ok());
    let result = result.map(str::to_owned);
    let body = response.body_mut().read_to_string()?;
    Ok(Answer { status, result, body })
}
