//! Properties that must hold for any bytes that a stranger sends, one file each.
//!
//! A property is a function of bytes that panics where it is broken. libFuzzer searches for such bytes
//! (`fuzz_targets/`, run by `.ci/fuzz` on the nightly compiler); `tests/` tries the committed inputs (`corpus/`)
//! and random changes of them on the stable one. The inputs with names were written by hand; the others were
//! found, and stay for the code that they reach. One that broke a property joins them under a name.

#![expect(clippy::unwrap_used, reason = "a panic is how a property reports")]

pub mod payload;
pub mod query;
pub mod signature;
pub mod time;

pub mod http;
pub mod session;

mod service;

/// Panics if what must hold does not for these bytes.
pub type Property = fn(&[u8]);

/// Every property by its name, which is also that of its fuzz target and of its folder in `corpus/`.
pub const PROPERTIES: [(&str, Property); 6] = [
    ("payload", payload::check),
    ("query", query::check),
    ("signature", signature::check),
    ("time", time::check),
    ("http", http::check),
    ("session", session::check),
];
