//! Memory of the bodies under way: so much for all of them, for large ones, and for each client.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::BODY_BYTES_MAX_LIMIT;
use crate::error::ApiError;
use crate::limits::share::{Share, Shares};

/// Bytes of all bodies under way, from the first byte of one until it is answered. A body's buffer may have
/// grown to twice what is in it; so these take up 128 MiB at most.
const ALL_BYTES_MAX: usize = 64 << 20;

/// Bytes that bodies have beyond [`SMALL_BYTES_MAX`] each. The rest of the memory is kept for small bodies, which
/// most webhooks have.
const LARGE_BYTES_MAX: usize = 48 << 20;

/// Bytes of a small body: more than any usual webhook.
const SMALL_BYTES_MAX: usize = 16 << 10;

/// Bytes of the bodies of one client: one of the largest that can be allowed.
const CLIENT_BYTES_MAX: usize = BODY_BYTES_MAX_LIMIT;

/// What there may be too much of.
pub(crate) const BODIES: &str = "request bodies";

/// The same of one client.
pub(crate) const CLIENT_BODIES: &str = "request bodies of one client";

/// The memory of all bodies.
pub struct Bodies {
    all: Semaphore,
    large: Semaphore,
    clients: Arc<Shares>,
}

/// A body's part of the memory; it is given back when this is dropped.
pub(crate) struct BodyMemory<'a> {
    bodies: &'a Bodies,
    n_bytes: usize,
    all: SemaphorePermit<'a>,
    large: SemaphorePermit<'a>,
    of_client: Share,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            all: Semaphore::new(ALL_BYTES_MAX),
            large: Semaphore::new(LARGE_BYTES_MAX),
            clients: Shares::new(CLIENT_BYTES_MAX),
        }
    }
}

impl Bodies {
    /// The memory of a body of which nothing has come yet.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`].
    pub(crate) fn begin(&self, client: IpAddr) -> Result<BodyMemory<'_>, ApiError> {
        Ok(BodyMemory {
            bodies: self,
            n_bytes: 0,
            all: take(&self.all, 0)?,
            large: take(&self.large, 0)?,
            of_client: self.clients.take(client, 0).ok_or(ApiError::Overloaded(CLIENT_BODIES))?,
        })
    }
}

impl BodyMemory<'_> {
    /// Makes room for more bytes of the body.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`].
    pub(crate) fn grow(&mut self, n_bytes: usize) -> Result<(), ApiError> {
        let large_bytes = |n_bytes: usize| n_bytes.saturating_sub(SMALL_BYTES_MAX);
        let grown = self.n_bytes + n_bytes;
        if !self.of_client.grow(n_bytes) {
            return Err(ApiError::Overloaded(CLIENT_BODIES));
        }
        let more_large = large_bytes(grown) - large_bytes(self.n_bytes);
        if more_large > 0 {
            self.large.merge(take(&self.bodies.large, more_large)?);
        }
        self.all.merge(take(&self.bodies.all, n_bytes)?);
        self.n_bytes = grown;
        Ok(())
    }
}

fn take(memory: &Semaphore, n_bytes: usize) -> Result<SemaphorePermit<'_>, ApiError> {
    let n_bytes = u32::try_from(n_bytes).unwrap_or(u32::MAX);
    memory.try_acquire_many(n_bytes).map_err(|_| ApiError::Overloaded(BODIES))
}
