//! SHA-256 and HMAC-SHA-256, by ring.

use domain::signature::BodyDigest;
use ring::{digest, hmac};

/// A secret is empty. An HMAC with an empty key proves nothing. Keys are padded with NUL bytes (RFC 2104, section 2), so NUL
/// bytes alone count as empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("secret is empty (NUL bytes alone count as empty)")]
pub struct EmptySecret;

pub(crate) struct HmacSha256(hmac::Key);

impl HmacSha256 {
    pub(crate) fn new(secret: &[u8]) -> Result<Self, EmptySecret> {
        if secret.iter().all(|byte| *byte == 0) {
            return Err(EmptySecret);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, message);
        tag.as_ref().try_into().expect("a SHA-256 tag has 32 bytes")
    }

    /// Returns true if `tag` is the tag of `message`, in constant time.
    pub(crate) fn verify(&self, message: &[u8], tag: &[u8; 32]) -> bool {
        hmac::verify(&self.0, message, tag).is_ok()
    }
}

/// Returns the SHA-256 digest of these bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> BodyDigest {
    let digest = digest::digest(&digest::SHA256, bytes);
    BodyDigest(digest.as_ref().try_into().expect("a SHA-256 digest has 32 bytes"))
}
