//! The binary `hookkeeper`: configuration, composition root, routes, logs, metrics and commands.
//!
//! It is a library too, so that the benchmark can put another store under the same server and the fuzz targets
//! reach what reads a stranger's bytes.

pub mod app;
pub mod bodies;
mod chunks;
pub mod commands;
pub mod config;
mod connection;
pub mod cursor;
pub mod door;
pub mod error;
mod handshake;
mod head;
mod host;
pub mod listener;
pub mod open_files;
mod openapi;
pub mod parameters;
mod places;
mod printable;
pub mod questions;
pub mod retention;
mod routes;
pub mod share;
mod signals;
mod small_file;
pub mod telemetry;
pub mod tls;

/// The version and the commit it was built from: `0.1.0 (1a2b3c4d5e6f)`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HOOKKEEPER_COMMIT"), ")");
