//! Port: does this request come from whoever holds the secret?

use crate::time::Timestamp;

/// A request as it came in, before anything in it is believed.
#[derive(Clone, Copy)]
pub struct InboundRequest<'a> {
    /// Header names in lower case and values as bytes, in the order received, repeats included.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body, byte for byte.
    pub body: &'a [u8],
}

impl<'a> InboundRequest<'a> {
    /// The value of a header that must be there exactly once, without the white space around it
    /// (which is not part of a value: RFC 9110, section 5.5).
    ///
    /// # Errors
    /// [`Refusal::Missing`], [`Refusal::Repeated`].
    pub fn single_header(&self, name: &str) -> Result<&'a [u8], Refusal> {
        let mut values = self.headers.iter().filter(|(n, _)| *n == name);
        let (_, value) = values.next().ok_or(Refusal::Missing)?;
        if values.next().is_some() {
            return Err(Refusal::Repeated);
        }
        Ok(value.trim_ascii())
    }
}

/// SHA-256 of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest(pub [u8; 32]);

/// A verifier's word that a body is the sender's. Only a [`SignatureVerifier`] (and a test) has
/// reason to make one.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// Digest of the very bytes that the signature covers.
    pub body_digest: BodyDigest,
}

/// Why a request is refused. The sender learns only that it is; the operator learns which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no signature.
    #[error("signature header is missing")]
    Missing,
    /// There is more than one signature header, so that it is not clear which one counts.
    #[error("signature header is repeated")]
    Repeated,
    /// The value can't be a signature of this scheme.
    #[error("signature is malformed")]
    Malformed,
    /// It is a signature, of something else or under another secret.
    #[error("signature does not match")]
    Mismatch,
}

/// Checks signatures of one scheme under one set of secrets.
///
/// Pure CPU: no await, no clock, no network; `now` is passed in for schemes that sign a time.
pub trait SignatureVerifier: Send + Sync {
    /// Refuses a request of which the headers alone tell that its signature can't hold, whatever its body. What this
    /// refuses, [`verify`](Self::verify) refuses for the same reason.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn check_headers(&self, headers: &[(&str, &[u8])]) -> Result<(), Refusal>;

    /// Checks the signature over the raw bytes, comparing in constant time.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn verify(&self, request: InboundRequest<'_>, now: Timestamp) -> Result<Verified, Refusal>;
}
