//! Limits: each client has its share of bodies and queries.

pub mod bodies;
pub mod queries;
pub mod share;
