//! A source: a named inbound endpoint and what vouches for its requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::message::Content;
use crate::payload::{self, InvalidPayload};
use crate::signature::SignatureVerifier;

pub use crate::source_name::{InvalidSourceName, SOURCE_NAME_BYTES_MAX, SourceName};

/// Reads the body of a webhook: the message in it and its idempotency key, `message_id`.
pub type Decoder = fn(&[u8]) -> Result<Content, InvalidPayload>;

/// A named inbound endpoint.
#[derive(Clone)]
pub struct Source {
    /// Name under which its messages are stored.
    pub name: SourceName,
    /// Verifier of its requests; `None` while it has no secret, and then nothing is received.
    pub verifier: Option<Arc<dyn SignatureVerifier>>,
    /// Decoder of its bodies.
    pub decoder: Decoder,
}

impl Source {
    /// Returns the source of `POST /webhook`.
    #[must_use]
    pub fn default_with(verifier: Option<Arc<dyn SignatureVerifier>>) -> Self {
        Self { name: SourceName::default(), verifier, decoder: payload::decode }
    }
}

/// All sources, found by name.
#[derive(Clone, Default)]
pub struct Sources(BTreeMap<SourceName, Source>);

impl Sources {
    /// Returns the source of this name, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Source> {
        self.0.get(name)
    }
}

impl FromIterator<Source> for Sources {
    fn from_iter<I: IntoIterator<Item = Source>>(sources: I) -> Self {
        Self(sources.into_iter().map(|source| (source.name.clone(), source)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_found_by_its_name() {
        let shop = Source { name: SourceName::parse("shop").unwrap(), ..Source::default_with(None) };
        let sources: Sources = [Source::default_with(None), shop].into_iter().collect();
        let found = |name| sources.get(name).map(|source| source.name.as_str());
        assert_eq!(found(SourceName::DEFAULT), Some("default"));
        assert_eq!(found("shop"), Some("shop"));
        assert_eq!(found("Shop"), None);
    }
}
