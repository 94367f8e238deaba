//! The name of a source.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

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

#[cfg(test)]
mod tests {
    use super::*;

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
