//! Memory of the bodies under way: limits for all bodies, for large ones, and for each client.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits::Overloaded;
use crate::limits::share::{Share, Shares};

/// Largest `BODY_BYTES_MAX`: a quarter of the bytes that may be queued, so that one sender can't fill the queue.
pub const BODY_BYTES_MAX_LIMIT: usize = 16 << 20;

/// Bytes of all bodies under way, from the first byte of a body until it is answered. The buffer of a body may have
/// grown to twice its content, so these take up 128 MiB at most.
const ALL_BYTES_MAX: usize = 64 << 20;

/// Bytes that all bodies have beyond [`SMALL_BYTES_MAX`] each. The rest of the memory is kept for small bodies, which
/// most webhooks have.
const LARGE_BYTES_MAX: usize = 48 << 20;

/// Bytes of a small body: more than most webhooks have.
const SMALL_BYTES_MAX: usize = 16 << 10;

/// Bytes of the bodies of one client: one body of the largest size that can be allowed.
const CLIENT_BYTES_MAX: usize = BODY_BYTES_MAX_LIMIT;

/// Error if there are too many bytes of all bodies.
pub(crate) const BODIES: Overloaded = Overloaded("request bodies");

/// Error if there are too many bytes of one client's bodies.
pub(crate) const CLIENT_BODIES: Overloaded = Overloaded("request bodies of one client");

/// Memory of all bodies.
pub(crate) struct Bodies {
    all: Semaphore,
    large: Semaphore,
    clients: Arc<Shares>,
}

/// Memory of one body; it is given back when this is dropped.
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
    /// Returns the memory of a body that has no bytes yet.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub(crate) fn begin(&self, client: IpAddr) -> Result<BodyMemory<'_>, Overloaded> {
        Ok(BodyMemory {
            bodies: self,
            n_bytes: 0,
            all: take(&self.all, 0)?,
            large: take(&self.large, 0)?,
            of_client: self.clients.take(client, 0).ok_or(CLIENT_BODIES)?,
        })
    }
}

impl BodyMemory<'_> {
    /// Takes memory for more bytes of the body.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub(crate) fn grow(&mut self, n_bytes: usize) -> Result<(), Overloaded> {
        let large_bytes = |n_bytes: usize| n_bytes.saturating_sub(SMALL_BYTES_MAX);
        let grown = self.n_bytes + n_bytes;
        if !self.of_client.grow(n_bytes) {
            return Err(CLIENT_BODIES);
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

fn take(memory: &Semaphore, n_bytes: usize) -> Result<SemaphorePermit<'_>, Overloaded> {
    let n_bytes = u32::try_from(n_bytes).unwrap_or(u32::MAX);
    memory.try_acquire_many(n_bytes).map_err(|_| BODIES)
}
