//! Hookkeeper's binary: configuration, composition root, routes, log, metrics and commands.
//!
//! It is a library, too: the benchmark runs the same server on another store, and the fuzz targets call the parsers.
//!
//! In reading order:

mod schema;
mod webhook_result;

pub mod config;
mod small_file;

mod access;
mod limits;
pub mod transport;

pub mod telemetry;

pub mod error;
mod health;

pub mod state;

mod middleware;
pub mod routes;

mod openapi;
mod router;

pub mod server;

pub mod compose;
mod workers;

pub mod commands;
mod signals;

/// Version and commit of this build: `0.1.0 (1a2b3c4d5e6f)`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HOOKKEEPER_COMMIT"), ")");
