//! A source: a named inbound endpoint and what vouches for its requests.

use std::fmt;
use std::sync::Arc;

use crate::signature::SignatureVerifier;

/// The name of a source, as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// The source of `POST /webhook`.
    pub const DEFAULT: &'static str = "default";

    /// The source called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SourceName {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A named inbound endpoint.
#[derive(Clone)]
pub struct Source {
    /// What its messages are stored under.
    pub name: SourceName,
    /// What vouches for its requests; `None` while it has no secret, and then nothing is received.
    pub verifier: Option<Arc<dyn SignatureVerifier>>,
}
