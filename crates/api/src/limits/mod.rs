//! Limits: bytes of bodies and number of queries, for all clients together and for each.

pub(crate) mod bodies;
pub(crate) mod queries;
pub(crate) mod share;

/// Error: there are too many of these at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many {0} at once")]
pub struct Overloaded(pub(crate) &'static str);
