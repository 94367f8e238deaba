//! A source: a named inbound endpoint and what vouches for its requests.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::message::Content;
use crate::payload::{self, InvalidPayload};
use crate::signature::SignatureVerifier;

/// Bytes of a source's name, at most: it stands in paths, logs and metrics.
pub const SOURCE_NAME_BYTES_MAX: usize = 64;

/// The name of a source: lower-case ASCII letters, digits, `-` and `_`, beginning with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

/// A text is no name of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to {SOURCE_NAME_BYTES_MAX} lower-case letters, digits, `-` and `_`, beginning with a letter or a digit"
)]
pub struct InvalidSourceName;

impl SourceName {
    /// The source of `POST /webhook`.
    pub const DEFAULT: &'static str = "default";

    /// Parses the name of a source.
    ///
    /// # Errors
    /// [`InvalidSourceName`].
    pub fn parse(name: &str) -> Result<Self, InvalidSourceName> {
        let is_in_name =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_valid = name.len() <= SOURCE_NAME_BYTES_MAX
            && name.as_bytes().first().is_some_and(is_first)
            && name.bytes().all(is_in_name);
        if is_valid { Ok(Self(Arc::from(name))) } else { Err(InvalidSourceName) }
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SourceName {
    fn default() -> Self {
        Self(Arc::from(Self::DEFAULT))
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for SourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

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

    #[test]
    fn a_name_is_short_and_plain() {
        for name in ["default", "shop", "a", "0", "whatsapp-cloud_2", &"x".repeat(64)] {
            assert_eq!(SourceName::parse(name).map(|name| name.to_string()), Ok(name.to_owned()));
        }
        for name in ["", "Shop", "-shop", "_shop", "a/b", "a b", "é", "a.b", "shop\n", &"x".repeat(65)] {
            assert_eq!(SourceName::parse(name), Err(InvalidSourceName), "{name:?}");
        }
    }
}
