//! Signature schemes, one file each.

mod x_signature;

pub use x_signature::XSignature;
