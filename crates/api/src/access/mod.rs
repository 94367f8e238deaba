//! Access: the client of a request, and its rights.

pub(crate) mod client_addr;
pub(crate) mod host;
pub(crate) mod refusals;
pub(crate) mod rights;
pub(crate) mod token;
