//! The binary `hookkeeper`: configuration, composition root, routes, logs, metrics and commands.
//!
//! It is a library too, so that the benchmark can put another store under the same server and the fuzz targets
//! reach what reads a stranger's bytes.

pub mod access;
pub mod commands;
pub mod config;
pub mod error;
pub mod limits;
mod middleware;
mod openapi;
mod router;
pub mod routes;
mod schema;
pub mod server;
mod signals;
mod small_file;
pub mod telemetry;
pub mod transport;
pub mod workers;

/// The version and the commit it was built from: `0.1.0 (1a2b3c4d5e6f)`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HOOKKEEPER_COMMIT"), ")");
