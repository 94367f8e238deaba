//! The write-ahead log: when it is moved into the database, and how it stays bounded.

pub(crate) mod checkpoint;
pub(crate) mod gate;
