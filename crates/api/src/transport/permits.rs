//! Permits: a bounded number, of which each client has a share. The client that has been waited for longest makes
//! room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use prometheus::{IntCounter, IntGauge, Registry};

use crate::access::client_addr::network_of;

/// One in so many permits is kept for those who have been told to go and have not gone yet.
const PARTS_FOR_LEAVING: usize = 16;

/// Permits for connections, or for what connections do.
pub(crate) struct Permits {
    /// Most that are held.
    max: usize,
    /// Most that one client holds.
    client_max: usize,
    started: Instant,
    /// Since when the holder of each permit waits for its client, in microseconds after the start; 0 if it does not.
    /// Apart from the rest, because all are looked through to find the longest.
    waits_since_us: Box<[AtomicU64]>,
    leaving: Box<[Leaving]>,
    held: Mutex<Held>,
    metrics: PermitMetrics,
}

/// Metrics of permits.
#[derive(Clone)]
pub(crate) struct PermitMetrics {
    /// Permits that are held.
    pub(crate) held: IntGauge,
    /// Permits that can be held.
    pub(crate) max: IntGauge,
    /// Clients that were refused a permit.
    pub(crate) refused: IntCounter,
    /// Holders that were told to go, so that another had room.
    pub(crate) evicted: IntCounter,
}

impl PermitMetrics {
    /// Registers what is counted of `what`, under names that begin with `name`.
    ///
    /// # Errors
    /// The names are taken, which a test would have shown.
    pub(crate) fn new(registry: &Registry, name: &str, what: &str) -> prometheus::Result<Self> {
        let metrics = Self {
            held: IntGauge::new(name, format!("{what} now."))?,
            max: IntGauge::new(format!("{name}_max"), format!("{what}, at most."))?,
            refused: IntCounter::new(
                format!("{name}_refused_total"),
                format!(
                    "{what} that were closed at once: there was no room, or none of their client's share."
                ),
            )?,
            evicted: IntCounter::new(
                format!("{name}_evicted_total"),
                format!("{what} that idled longest and were closed to make room."),
            )?,
        };
        registry.register(Box::new(metrics.held.clone()))?;
        registry.register(Box::new(metrics.max.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.evicted.clone()))?;
        Ok(metrics)
    }
}

#[derive(Default)]
struct Leaving {
    is_told: AtomicBool,
    waker: AtomicWaker,
}

struct Held {
    free: Vec<usize>,
    /// Holder of each permit; `None` if it is free, or its holder has been told to go.
    clients: Box<[Option<IpAddr>]>,
    n_held: usize,
    n_of_client: HashMap<IpAddr, usize>,
}

/// A permit; it is free again when this is dropped.
pub(crate) struct Permit {
    permits: Arc<Permits>,
    at: usize,
}

impl Permits {
    /// Returns `n` permits, some of which are kept for holders that have been told to go. One client holds `client_max`
    /// at most.
    pub(crate) fn new(n: usize, client_max: usize, metrics: PermitMetrics) -> Arc<Self> {
        let max = (n - n / PARTS_FOR_LEAVING).max(1);
        metrics.max.add(i64::try_from(max).unwrap_or(i64::MAX));
        Arc::new(Self {
            max,
            client_max: client_max.min(max),
            started: Instant::now(),
            waits_since_us: (0..n).map(|_| AtomicU64::new(0)).collect(),
            leaving: (0..n).map(|_| Leaving::default()).collect(),
            held: Mutex::new(Held {
                free: (0..n).rev().collect(),
                clients: vec![None; n].into(),
                n_held: 0,
                n_of_client: HashMap::new(),
            }),
            metrics,
        })
    }

    /// Gives a client a permit. If it has its share already, whichever of its own waits longest makes room; if all are
    /// held, whichever of all does. `has_all`: its share is the whole, as that of a proxy who comes for many.
    ///
    /// `None` if nobody waits who could make room.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr, has_all: bool) -> Option<Permit> {
        let client = network_of(client.to_canonical());
        let permit = self.take_among(&mut self.held(), client, has_all);
        match permit {
            Some(_) => self.metrics.held.inc(),
            None => self.metrics.refused.inc(),
        }
        permit
    }

    fn take_among(self: &Arc<Self>, held: &mut Held, client: IpAddr, has_all: bool) -> Option<Permit> {
        let n_of_client = held.n_of_client.get(&client).copied().unwrap_or(0);
        let has_room = if !has_all && n_of_client >= self.client_max {
            self.evict(held, Some(client))
        } else {
            held.n_held < self.max || self.evict(held, None)
        };
        if !has_room {
            return None;
        }
        let at = held.free.pop()?;
        held.clients[at] = Some(client);
        held.n_held += 1;
        *held.n_of_client.entry(client).or_default() += 1;
        let permit = Permit { permits: Arc::clone(self), at };
        permit.waits();
        Some(permit)
    }

    /// Tells whoever waits longest to go, of one client or of all; false if nobody waits.
    fn evict(&self, held: &mut Held, of: Option<IpAddr>) -> bool {
        let waits = |at: usize| match self.waits_since_us[at].load(Ordering::Relaxed) {
            0 => None,
            since_us => Some((since_us, at)),
        };
        let is_meant = |client: &Option<IpAddr>| client.is_some() && (of.is_none() || *client == of);
        let clients = held.clients.iter().enumerate().filter(|(_, client)| is_meant(client));
        let Some((_, at)) = clients.filter_map(|(at, _)| waits(at)).min() else {
            return false;
        };
        held.forget(at);
        self.leaving[at].is_told.store(true, Ordering::Release);
        self.leaving[at].waker.wake();
        self.metrics.evicted.inc();
        true
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn forget(&mut self, at: usize) {
        let Some(client) = self.clients[at].take() else {
            return;
        };
        self.n_held -= 1;
        if let Some(n) = self.n_of_client.get_mut(&client) {
            *n -= 1;
            if *n == 0 {
                self.n_of_client.remove(&client);
            }
        }
    }
}

impl Permit {
    /// The client keeps us waiting, from now on if it does not yet.
    pub(crate) fn waits(&self) {
        let since_us = &self.permits.waits_since_us[self.at];
        if since_us.load(Ordering::Relaxed) == 0 {
            let now_us = u64::try_from(self.permits.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            since_us.store(now_us.max(1), Ordering::Relaxed);
        }
    }

    /// The client does not keep us waiting any more.
    pub(crate) fn works(&self) {
        self.permits.waits_since_us[self.at].store(0, Ordering::Relaxed);
    }

    /// Ready once another needs the permit more.
    pub(crate) fn poll_told_to_go(&self, cx: &mut Context<'_>) -> Poll<()> {
        let leaving = &self.permits.leaving[self.at];
        leaving.waker.register(cx.waker());
        if leaving.is_told.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Whoever looks for a permit to tell has the lock, and does not find this one while it is made as new.
        let mut held = self.permits.held();
        self.works();
        let leaving = &self.permits.leaving[self.at];
        drop(leaving.waker.take());
        leaving.is_told.store(false, Ordering::Release);
        held.forget(self.at);
        held.free.push(self.at);
        self.permits.metrics.held.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::task::noop_waker_ref;

    use super::*;

    fn permits(n: usize, client_max: usize) -> Arc<Permits> {
        Permits::new(n, client_max, PermitMetrics::new(&Registry::new(), "a", "a").unwrap())
    }

    fn client(n: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, n).into()
    }

    fn is_told(permit: &Permit) -> bool {
        permit.poll_told_to_go(&mut Context::from_waker(noop_waker_ref())).is_ready()
    }

    /// Waits until the clock of the permits has gone on, so that it is clear who waits longest.
    fn tick() {
        let started = Instant::now();
        while started.elapsed().as_micros() < 10 {}
    }

    fn take(permits: &Arc<Permits>, n: u8) -> Permit {
        tick();
        permits.take(client(n), false).unwrap()
    }

    #[test]
    fn a_client_with_its_share_makes_room_for_itself() {
        let permits = permits(32, 2);
        let other = take(&permits, 2);
        let (first, second) = (take(&permits, 1), take(&permits, 1));
        tick();
        first.works();
        first.waits();
        let third = take(&permits, 1);
        assert_eq!([&other, &first, &second, &third].map(is_told), [false, false, true, false]);
        first.works();
        third.works();
        assert!(permits.take(client(1), false).is_none(), "nobody of its own waits");
        assert!(permits.take(client(1), true).is_some(), "it has the whole");
    }

    #[test]
    fn when_all_permits_are_held_whoever_waits_longest_makes_room() {
        let permits = permits(32, 32);
        let held: Vec<_> = (0..30).map(|n| take(&permits, n)).collect();
        held[0].works();
        let last = take(&permits, 100);
        assert!(is_told(&held[1]) && held.iter().filter(|permit| is_told(permit)).count() == 1);
        for permit in held.iter().chain([&last]) {
            permit.works();
        }
        assert!(permits.take(client(101), false).is_none(), "nobody waits");
        drop(held);
        assert!(!is_told(&take(&permits, 1)), "a permit is as new when it is taken again");
        drop(last);
        assert!(permits.held().n_of_client.is_empty());
    }

    #[test]
    fn there_is_one_permit_at_least() {
        let permits = permits(1, 1);
        let _held = permits.take(client(1), false).unwrap();
        assert!(permits.take(client(2), false).is_none(), "there is no room for who has to leave");
    }
}
