//! Resources, one file each.

mod answer;
pub mod cursor;
pub(crate) mod health;
pub(crate) mod messages;
pub(crate) mod metrics;
mod pace;
pub mod parameters;
pub(crate) mod stats;
pub(crate) mod webhook;
