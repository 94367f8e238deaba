//! Connections: from a socket to the bytes of a request.

mod chunks;
pub(crate) mod connection;
pub(crate) mod exchange;
pub(crate) mod handshake;
pub(crate) mod head;
pub(crate) mod large_heads;
pub mod listener;
pub mod open_files;
pub(crate) mod permits;
pub(crate) mod socket;
pub mod tcp;
pub(crate) mod time_limits;
pub mod tls;
