//! Commands of an operator on a database: back up, restore, check, delete, export.

pub(crate) mod backup;
pub(crate) mod check;
mod copy;
pub(crate) mod delete;
pub(crate) mod export;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod snapshot;
