//! Questions to a service, one after the other on one connection.

use std::fmt::Display;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use crate::BenchError;

/// A question ends after 10 s, whatever is stuck; this is more.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    agent: Agent,
    base: String,
}

impl Client {
    pub(crate) fn new(addr: impl Display) -> Self {
        let config = Agent::config_builder().timeout_global(Some(ANSWER_TIME_MAX));
        Self { agent: config.build().into(), base: format!("http://{addr}") }
    }

    /// The body of an answer; any status but 2xx is an error.
    pub(crate) fn get(&self, target: &str) -> Result<String, ureq::Error> {
        self.agent.get(format!("{}{target}", self.base)).call()?.body_mut().read_to_string()
    }

    pub(crate) fn json(&self, target: &str) -> Result<Value, BenchError> {
        Ok(serde_json::from_str(&self.get(target)?)?)
    }

    /// The target of the page after this one, as its `Link` header has it.
    pub(crate) fn next_page(&self, target: &str) -> Result<Option<String>, BenchError> {
        let answer = self.agent.get(format!("{}{target}", self.base)).call()?;
        let Some(link) = answer.headers().get("link") else {
            return Ok(None);
        };
        let next = link.to_str()?.strip_prefix('<').and_then(|link| link.split_once('>'));
        Ok(next.map(|(next, _)| next.to_owned()))
    }

    /// Posts a webhook; returns the result that its answer names: `created` or `duplicate`.
    pub(crate) fn post(&self, signature: &str, body: &[u8]) -> Result<Option<String>, BenchError> {
        let url = format!("{}/webhook", self.base);
        let answer = self.agent.post(url).header("X-Signature", signature).send(body)?;
        Ok(answer.headers().get("x-webhook-result").map(|v| v.to_str().map(str::to_owned)).transpose()?)
    }
}
