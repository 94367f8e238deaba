//! Signature schemes, one file each. Only `hmac` names ring.

mod hmac;
mod x_signature;

pub use hmac::{EmptySecret, sha256};
pub use x_signature::XSignature;
