//! Middleware around the handlers, and the marks that these leave for it.

pub(crate) mod marks;
pub(crate) mod observe;
pub(crate) mod require_token;
