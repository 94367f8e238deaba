//! Access: where a request comes from, and what its client may read.

pub(crate) mod client_addr;
pub(crate) mod host;
pub(crate) mod refusals;
pub(crate) mod rights;
pub(crate) mod token;
