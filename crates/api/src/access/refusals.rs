//! Refusals: wrong signatures, counted by client.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::access::client_addr::network_of;

/// Wrong signatures of one client that are answered 401 at once; after that, five a second are. A sender whose secret
/// was rotated sends fewer, and this many are no load.
const REFUSALS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(300).expect("it is not zero");

/// Clients whose wrong signatures are counted, at some hundred bytes each. Those of more clients are refused, but not
/// counted.
const CLIENTS_MAX: usize = 100_000;

/// Wrong signatures after which clients without a recent one are forgotten.
const REFUSALS_PER_SWEEP: u32 = 10_000;

/// Counts the wrong signatures of each client.
pub(crate) struct Refusals {
    by_client: DefaultKeyedRateLimiter<IpAddr>,
    n_refusals: AtomicU32,
}

/// Error: a client has sent too many wrong signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many invalid signatures")]
pub struct TooMany {
    /// Time after which one more is counted.
    pub retry_after: Duration,
}

impl Default for Refusals {
    fn default() -> Self {
        let by_client = DefaultKeyedRateLimiter::keyed(Quota::per_minute(REFUSALS_PER_MINUTE));
        Self { by_client, n_refusals: AtomicU32::new(0) }
    }
}

impl Refusals {
    /// Counts a wrong signature. To be called only once a signature was found wrong, so that a right one is
    /// never held up by other requests from the same address.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(crate) fn count(&self, client: IpAddr) -> Result<(), TooMany> {
        if self.n_refusals.fetch_add(1, Ordering::Relaxed) % REFUSALS_PER_SWEEP == REFUSALS_PER_SWEEP - 1 {
            self.by_client.retain_recent();
            self.by_client.shrink_to_fit();
        }
        if self.by_client.len() >= CLIENTS_MAX {
            return Ok(());
        }
        let now = DefaultClock::default().now();
        let counted = self.by_client.check_key(&network_of(client));
        counted.map_err(|not_until| TooMany { retry_after: not_until.wait_time_from(now) })
    }
}
