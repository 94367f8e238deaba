//! Middleware around every request.

pub(crate) mod observe;
