//! Hookkeeper's own scheme: `X-Signature: hex(HMAC-SHA256(secret, body))`.
//!
//! No prefix, no timestamp: a captured request can be sent again, and is then a duplicate.

use domain::signature::{InboundRequest, Refusal, SignatureVerifier, Verified};
use domain::time::Timestamp;

use crate::digest::{EmptySecret, HmacSha256, sha256};

/// Signs and verifies with one secret.
pub struct XSignature(HmacSha256);

impl XSignature {
    /// The header that carries the signature, in lower case.
    pub const HEADER: &'static str = "x-signature";

    /// # Errors
    /// [`EmptySecret`].
    pub fn new(secret: &[u8]) -> Result<Self, EmptySecret> {
        HmacSha256::new(secret).map(Self)
    }

    /// The header's value for `body`.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        hex::encode(self.0.sign(body))
    }
}

/// Returns the tag that a request is signed with.
fn tag_of(request: InboundRequest<'_>) -> Result<[u8; 32], Refusal> {
    let value = request.single_header(XSignature::HEADER)?;
    let mut tag = [0; 32];
    hex::decode_to_slice(value, &mut tag).map_err(|_| Refusal::Malformed)?;
    Ok(tag)
}

impl SignatureVerifier for XSignature {
    fn check_headers(&self, headers: &[(&str, &[u8])]) -> Result<(), Refusal> {
        tag_of(InboundRequest { headers, body: b"" }).map(drop)
    }

    fn verify(&self, request: InboundRequest<'_>, _now: Timestamp) -> Result<Verified, Refusal> {
        let tag = tag_of(request)?;
        if self.0.verify(request.body, &tag) {
            Ok(Verified { body_digest: sha256(request.body) })
        } else {
            Err(Refusal::Mismatch)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"message_id":"m1","from":"+919876543210","to":"+14155550100","ts":"2025-01-15T10:00:00Z","text":"Hello"}"#;
    const SIGNATURE: &str = "ff1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb";

    fn verify(headers: &[(&str, &[u8])], body: &[u8]) -> Result<Verified, Refusal> {
        let scheme = XSignature::new(b"testsecret").unwrap();
        scheme.verify(InboundRequest { headers, body }, Timestamp::from_micros(0))
    }

    fn verify_value(value: &[u8]) -> Result<Verified, Refusal> {
        verify(&[("content-type", b"application/json"), ("x-signature", value)], BODY)
    }

    /// The contract's own example.
    #[test]
    fn the_published_vector_holds() {
        assert_eq!(BODY.len(), 105);
        assert_eq!(XSignature::new(b"testsecret").unwrap().sign(BODY), SIGNATURE);
        assert!(verify_value(SIGNATURE.as_bytes()).is_ok());
    }

    #[test]
    fn hex_has_no_case_and_white_space_around_a_value_is_not_part_of_it() {
        assert!(verify_value(SIGNATURE.to_uppercase().as_bytes()).is_ok());
        assert!(verify_value(format!(" \t{SIGNATURE}\t ").as_bytes()).is_ok());
    }

    #[test]
    fn the_digest_is_sha_256_of_the_body() {
        let verified = verify_value(SIGNATURE.as_bytes()).unwrap();
        assert_eq!(verified.body_digest, sha256(BODY));
        // FIPS 180-4, the digest of "abc".
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(sha256(b"abc").0), abc);
    }

    #[test]
    fn everything_else_is_refused() {
        assert_eq!(verify(&[], BODY).unwrap_err(), Refusal::Missing);
        let signature = SIGNATURE.as_bytes();
        let twice: [(&str, &[u8]); 2] = [("x-signature", signature), ("x-signature", signature)];
        assert_eq!(verify(&twice, BODY).unwrap_err(), Refusal::Repeated);
        for value in [
            &b""[..],
            b"zz",
            &signature[..63],
            &signature[..62],
            format!("{SIGNATURE}00").as_bytes(),
            format!("sha256={SIGNATURE}").as_bytes(),
            format!("0x{}", &SIGNATURE[2..]).as_bytes(),
            b"/xAW5SS8kpnRiYjs8nqICvlCgUDjhQrwxz6h7vCRpMs=",
            "ﬀ1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb".as_bytes(),
            &[0xff; 64],
        ] {
            assert_eq!(verify_value(value).unwrap_err(), Refusal::Malformed, "{value:?}");
        }
        let other = XSignature::new(b"another secret").unwrap().sign(BODY);
        assert_eq!(verify_value(other.as_bytes()).unwrap_err(), Refusal::Mismatch);
        let changed: [(&str, &[u8]); 1] = [("x-signature", signature)];
        assert_eq!(verify(&changed, b"{}").unwrap_err(), Refusal::Mismatch);
    }

    #[test]
    fn there_is_no_scheme_without_a_secret() {
        for nothing in [&b""[..], b"\0", &[0; 64], &[0; 65]] {
            assert_eq!(XSignature::new(nothing).err(), Some(EmptySecret));
        }
        assert!(XSignature::new(b"\0x").is_ok());
    }
}
