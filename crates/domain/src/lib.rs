//! Messages, the rules of exactly-once ingest, and the ports of storage.
//!
//! Deliberately not here: I/O, a clock, a runtime, cryptography, HTTP. Whatever the rules need of
//! those comes in through a port (a trait in this crate) or as an argument.
//!
//! In reading order:

pub mod time;

pub mod source_name;

pub mod message;
pub mod payload;

pub mod signature;
pub mod source;
pub mod store;

pub mod ingest;

pub mod query;
pub mod text_query;

pub mod retention;

pub mod event;
pub mod usage;

#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "contract")]
pub mod memory;
