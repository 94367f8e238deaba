//! What an operator sees: log lines and metrics.

pub mod log;
pub mod metrics;
pub(crate) mod printable;
pub(crate) mod stdout;
