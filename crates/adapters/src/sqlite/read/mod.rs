//! Reading: each query is one snapshot on a read-only connection.

pub(crate) mod listing;
pub(crate) mod reader;
pub(crate) mod selection;
pub(crate) mod stats;
