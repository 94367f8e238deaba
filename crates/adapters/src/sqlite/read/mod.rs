//! Reading: each query is one snapshot on a read-only connection.

mod listing;
pub(crate) mod reader;
pub(crate) mod selection;
mod stats;
pub(crate) mod text_contains;
