//! The resources, one file each.

pub mod cursor;
pub(crate) mod health;
pub(crate) mod messages;
pub mod parameters;
pub(crate) mod webhook;
