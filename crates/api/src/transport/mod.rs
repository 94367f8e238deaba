//! Connections: from a socket to the bytes of a request.

mod chunks;
pub(crate) mod connection;
pub(crate) mod handshake;
pub(crate) mod head;
pub mod listener;
pub mod open_files;
pub(crate) mod permits;
pub mod tls;
