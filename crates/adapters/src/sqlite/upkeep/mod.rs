//! Commands of an operator on a database: back up, restore, check, delete, export.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod delete;
pub(crate) mod export;
pub(crate) mod last_backup;
pub(crate) mod restore;
