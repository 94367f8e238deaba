//! What an operator sees: log lines and metrics.

pub mod log;
pub mod metrics;
pub mod request;
pub(crate) mod stdout;
pub mod text_index;
