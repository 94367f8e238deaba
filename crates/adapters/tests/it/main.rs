//! The promises of the ports, kept by SQLite on a real disk.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod backup;
mod check;
mod deletion;
mod differential;
mod expiry;
mod layout;
mod model;
mod numbered;
mod parts;
mod plain_model;
mod questions;
mod restore;
mod retention;
mod search_index;
mod sqlite;
