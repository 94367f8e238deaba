//! The ports of `domain` made real, one folder a technology. Adapters don't import each other.

pub mod clock;
pub mod digest;
pub mod signature;
pub mod sqlite;
