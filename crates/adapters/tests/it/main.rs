//! The promises of the ports, kept by SQLite on a real disk.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod backup;
mod deletion;
mod differential;
mod layout;
mod model;
mod questions;
mod search_index;
mod sqlite;
