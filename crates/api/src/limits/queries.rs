//! Queries under way: each client has its share of them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::limits::Overloaded;
use crate::limits::share::{Share, Shares};

/// Searches of one client at once, waiting ones included: half of those that the store runs at once.
const CLIENT_SEARCHES_MAX: usize = 2;

/// Look-ups of one client at once. Each takes a millisecond, so that this many delay the others only for a moment.
const CLIENT_LOOK_UPS_MAX: usize = 64;

/// Error if one client has too many searches under way.
pub(crate) const CLIENT_SEARCHES: Overloaded = Overloaded("searches of one client");

/// Error if one client has too many look-ups under way.
pub(crate) const CLIENT_LOOK_UPS: Overloaded = Overloaded("queries of one client");

/// Queries of each client.
pub(crate) struct Queries {
    searches: Arc<Shares>,
    look_ups: Arc<Shares>,
}

/// Kind of a query, by its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A few look-ups in an index.
    LookUp,
    /// A search: see [`Filter::is_search`](domain::query::Filter::is_search).
    Search,
}

impl Default for Queries {
    fn default() -> Self {
        Self { searches: Shares::new(CLIENT_SEARCHES_MAX), look_ups: Shares::new(CLIENT_LOOK_UPS_MAX) }
    }
}

impl Queries {
    /// Counts a query of a client until the returned share is dropped.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub(crate) fn begin(&self, client: IpAddr, kind: Kind) -> Result<Share, Overloaded> {
        let (shares, overloaded) = match kind {
            Kind::LookUp => (&self.look_ups, CLIENT_LOOK_UPS),
            Kind::Search => (&self.searches, CLIENT_SEARCHES),
        };
        shares.take(client, 1).ok_or(overloaded)
    }
}
