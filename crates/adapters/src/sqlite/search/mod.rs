//! The text index: a file of its own beside the database, kept up by a thread of its own.

pub(crate) mod check;
pub(crate) mod file;
