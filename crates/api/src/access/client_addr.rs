//! Address of a client, which a trusted proxy may state in `X-Forwarded-For`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use actix_web::HttpRequest;
use ipnet::IpNet;

/// Most addresses that are read from the end of the `X-Forwarded-For` list: no path has more proxies.
const FORWARDED_MAX: usize = 32;

/// Networks of the proxies whose `X-Forwarded-For` is believed.
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns true for the address of a trusted proxy.
    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.0.iter().any(|network| network.contains(&addr))
    }

    /// Returns the address of the client, as the trusted proxies state it. Requests without an address count as one
    /// client.
    pub(crate) fn client(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        // Most requests come from no proxy, and their headers need no look.
        if !self.contains(peer) {
            return peer.to_canonical();
        }
        let forwarded = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
        self.last_untrusted(peer, forwarded)
    }

    /// Returns the last address of the path that is not a trusted proxy's. An address that only the client states does
    /// not count, or any client could be any other.
    fn last_untrusted<'a>(&self, peer: IpAddr, forwarded: impl Iterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return client;
        }
        let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).collect();
        for hop in hops.iter().rev().take(FORWARDED_MAX) {
            let hop = hop.trim();
            let addr = hop.parse().or_else(|_| hop.parse().map(|with_port: SocketAddr| with_port.ip()));
            // No proxy that we know writes a text that is not an address.
            let Ok(addr): Result<IpAddr, _> = addr else {
                return client;
            };
            client = addr.to_canonical();
            if !self.contains(client) {
                return client;
            }
        }
        client
    }
}

/// Returns the network that counts as one client: an IPv6 client has at least a /64 to take addresses from.
pub(crate) fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        trusted.last_untrusted(peer.parse().unwrap(), forwarded.iter().copied()).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        // The client's own entries stand before those of the proxies.
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "203.0.113.9,10.0.0.2"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["203.0.113.9:1234"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:1234"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let network = |addr: &str| network_of(addr.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
