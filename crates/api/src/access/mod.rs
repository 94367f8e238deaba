//! Access: which client may ask, and from which host.

pub(crate) mod host;
pub mod refusals;
