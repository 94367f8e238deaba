//! Share of a client: each limit for all clients together comes with one for each, so that none starves the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::access::client_addr::network_of;

/// Counts how much of a limited thing each client holds: bytes, connections, queries.
///
/// Only clients that hold some have an entry in memory.
#[derive(Debug)]
pub(crate) struct Shares {
    all_max: usize,
    each_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// Part of a client's share; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
    n: usize,
}

impl Shares {
    /// Returns shares of which each client may hold `each_max`. The user of these limits what all hold together.
    #[must_use]
    pub(crate) fn new(each_max: usize) -> Arc<Self> {
        Self::of_all(usize::MAX, each_max)
    }

    /// Returns shares of which each client may hold `each_max`, and all together `all_max`.
    #[must_use]
    pub(crate) fn of_all(all_max: usize, each_max: usize) -> Arc<Self> {
        Arc::new(Self { all_max, each_max, held: Mutex::default() })
    }

    /// Takes `n` for a client: an IPv4 address, or the /64 network of an IPv6 address. Returns `None` if the client
    /// would then hold more than its share, or all clients more than `all_max`.
    #[must_use]
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr, n: usize) -> Option<Share> {
        let mut share = Share { shares: Arc::clone(self), client: network_of(client.to_canonical()), n: 0 };
        share.grow(n).then_some(share)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Returns how much it is.
    #[must_use]
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// Takes `n` more. Takes nothing and returns false if the client would then hold more than its share, or all clients
    /// more than `all_max`.
    #[must_use]
    pub(crate) fn grow(&mut self, n: usize) -> bool {
        if n == 0 {
            return true;
        }
        let Held { by_all, by_client } = &mut *self.shares.held();
        let of_client = by_client.entry(self.client);
        let held_by_client = match &of_client {
            Entry::Occupied(of_client) => *of_client.get(),
            Entry::Vacant(_) => 0,
        };
        if held_by_client + n > self.shares.each_max || *by_all + n > self.shares.all_max {
            return false;
        }
        *of_client.or_default() += n;
        *by_all += n;
        self.n += n;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.n == 0 {
            return;
        }
        let mut held = self.shares.held();
        held.by_all -= self.n;
        if let Entry::Occupied(mut of_client) = held.by_client.entry(self.client) {
            *of_client.get_mut() -= self.n;
            if *of_client.get() == 0 {
                of_client.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_client_takes_more_than_its_share_and_none_takes_anothers() {
        let shares = Shares::new(10);
        let mut first = shares.take(addr("192.0.2.1"), 6).unwrap();
        assert!(shares.take(addr("192.0.2.1"), 5).is_none());
        assert!(!first.grow(5));
        assert!(first.grow(4));
        assert!(shares.take(addr("192.0.2.1"), 1).is_none());
        assert!(shares.take(addr("192.0.2.2"), 10).is_some(), "another client has its own");
        drop(first);
        assert!(shares.take(addr("192.0.2.1"), 10).is_some(), "what is dropped is given back");
    }

    #[test]
    fn all_together_take_no_more_than_there_is() {
        let shares = Shares::of_all(10, 6);
        let first = shares.take(addr("192.0.2.1"), 6).unwrap();
        assert!(shares.take(addr("192.0.2.2"), 5).is_none());
        let _second = shares.take(addr("192.0.2.2"), 4).unwrap();
        assert!(shares.take(addr("192.0.2.3"), 1).is_none());
        drop(first);
        assert!(shares.take(addr("192.0.2.3"), 6).is_some());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_have_one_share() {
        let shares = Shares::new(1);
        let _held = shares.take(addr("2001:db8:1:2::3"), 1).unwrap();
        assert!(shares.take(addr("2001:db8:1:2:ffff::4"), 1).is_none());
        assert!(shares.take(addr("2001:db8:1:3::3"), 1).is_some());
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_has_a_share_of_its_own() {
        let shares = Shares::new(1);
        let _held = shares.take(addr("::ffff:192.0.2.1"), 1).unwrap();
        assert!(shares.take(addr("192.0.2.1"), 1).is_none());
        assert!(shares.take(addr("::ffff:192.0.2.2"), 1).is_some());
    }

    #[test]
    fn who_holds_nothing_takes_up_no_memory() {
        let shares = Shares::new(10);
        let mut share = shares.take(addr("192.0.2.1"), 0).unwrap();
        assert!(shares.held().by_client.is_empty());
        assert!(share.grow(3));
        assert_eq!(shares.held().by_client.len(), 1);
        drop(share);
        assert!(shares.held().by_client.is_empty());
    }
}
