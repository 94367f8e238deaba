//! The text index: a file of its own beside the database, kept up to date by a thread of its own.

mod batch;
pub(crate) mod file;
pub(crate) mod indexer;
pub(crate) mod lookup;
pub(crate) mod verify;
