//! Telemetry: the log and the metrics.

pub mod log;
pub mod metrics;
pub(crate) mod printable;
pub(crate) mod stdout;
pub(crate) mod store_events;
mod usage;
