//! The promises of the ports, kept by SQLite on a real disk.

mod model;
mod sqlite;
