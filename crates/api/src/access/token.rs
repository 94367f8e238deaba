//! Bearer token (`API_TOKEN`) of every endpoint but webhooks and health.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use secrecy::{ExposeSecret, SecretSlice};
use subtle::ConstantTimeEq;

/// Scheme of the `Authorization` header, in any case.
const BEARER: &[u8] = b"bearer ";

/// Bearer token that a request must carry.
pub(crate) struct Token(SecretSlice<u8>);

impl Token {
    pub(crate) fn new(token: SecretSlice<u8>) -> Self {
        Self(token)
    }

    /// Returns true if the request carries the token. The time of the comparison does not depend on where they differ.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION);
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        match value.as_bytes().split_at_checked(BEARER.len()) {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case(BEARER) => {
                given.trim_ascii().ct_eq(self.0.expose_secret()).into()
            }
            _ => false,
        }
    }
}
