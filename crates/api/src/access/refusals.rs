//! The door: who may ask, and who has knocked with wrong signatures too often.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpRequest};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use ipnet::IpNet;
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;

use crate::access::host;
use crate::config::Secret;
use crate::error::ApiError;
use crate::server::App;

/// Wrong signatures of one client that are answered 401 at once, and then five in a second: more than a
/// sender makes whose secret was rotated, and no load for anyone.
const REFUSALS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(300).expect("it is not zero");

/// Clients whose wrong signatures are counted, at some hundred bytes each. Those beyond go uncounted: they
/// are refused all the same.
const CLIENTS_MAX: usize = 100_000;

/// After so many wrong signatures the clients are forgotten who have made none for long.
const REFUSALS_PER_SWEEP: u32 = 10_000;

/// Addresses of one entry in `X-Forwarded-For` lists that are looked at: no path has more proxies.
const FORWARDED_MAX: usize = 32;

/// Lets in or not.
pub struct Door {
    api_token: Option<Secret>,
    trusted_proxies: Vec<IpNet>,
    allowed_hosts: Vec<String>,
    refusals: DefaultKeyedRateLimiter<IpAddr>,
    n_refusals: AtomicU32,
}

impl Door {
    /// Without a token everybody may ask who knows our address or one of `allowed_hosts`. `X-Forwarded-For` counts
    /// only from `trusted_proxies`.
    #[must_use]
    pub fn new(api_token: Option<Secret>, trusted_proxies: Vec<IpNet>, allowed_hosts: Vec<String>) -> Self {
        let refusals = DefaultKeyedRateLimiter::keyed(Quota::per_minute(REFUSALS_PER_MINUTE));
        Self { api_token, trusted_proxies, allowed_hosts, refusals, n_refusals: AtomicU32::new(0) }
    }

    /// Where a request comes from, as the trusted proxies tell it. Those of which it can't be told count as one
    /// client.
    #[must_use]
    pub fn client(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        // Most come from nobody's proxy, and their headers need no look.
        if !self.is_trusted(peer) {
            return peer.to_canonical();
        }
        let forwarded = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
        client_addr(peer, forwarded, &self.trusted_proxies)
    }

    /// Whether an address is that of a trusted proxy.
    #[must_use]
    pub fn is_trusted(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&addr))
    }

    /// Counts a wrong signature. What carries a right one is never held up, whoever else comes from the same
    /// address: this is asked only once a signature was found wrong.
    ///
    /// # Errors
    /// The client has made too many; the next is counted anew after this time.
    pub fn count_refusal(&self, request: &HttpRequest) -> Result<(), Duration> {
        let client = self.client(request);
        if self.n_refusals.fetch_add(1, Ordering::Relaxed) % REFUSALS_PER_SWEEP == REFUSALS_PER_SWEEP - 1 {
            self.refusals.retain_recent();
            self.refusals.shrink_to_fit();
        }
        if self.refusals.len() >= CLIENTS_MAX {
            return Ok(());
        }
        let now = DefaultClock::default().now();
        self.refusals.check_key(&network_of(client)).map_err(|not_until| not_until.wait_time_from(now))
    }

    /// Whether a request may be told what is stored.
    fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match &self.api_token {
            Some(token) if !has_token(headers, token) => Err(ApiError::NoToken),
            None if !host::is_ours(headers, &self.allowed_hosts) => Err(ApiError::UnknownHost),
            _ => Ok(()),
        }
    }

    /// Whether a request may be told what is wrong inside: it has the token, or comes from this machine and no proxy
    /// says that it brings it from elsewhere.
    pub(crate) fn is_insider(&self, request: &HttpRequest) -> bool {
        let headers = request.headers();
        let has_token = self.api_token.as_ref().is_some_and(|token| has_token(headers, token));
        let is_loopback = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        let is_direct = PROXY_HEADERS.iter().all(|name| !headers.contains_key(*name));
        has_token || is_loopback && is_direct && host::is_ours(headers, &self.allowed_hosts)
    }
}

/// Whether a request carries the token. How long the comparison takes does not depend on where they differ.
fn has_token(headers: &HeaderMap, token: &Secret) -> bool {
    let mut values = headers.get_all(AUTHORIZATION);
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    match value.as_bytes().split_at_checked(BEARER.len()) {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(BEARER) => {
            given.trim_ascii().ct_eq(token.expose_secret()).into()
        }
        _ => false,
    }
}

const BEARER: &[u8] = b"bearer ";

/// What proxies add to a request.
const PROXY_HEADERS: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// Around everything that is not a webhook or health.
pub(crate) async fn require_token<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let app = request.app_data::<Data<App>>().expect("every server is built with its app");
    match app.door.check(request.headers()) {
        Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
        Err(error) => Ok(request.error_response(error)),
    }
}

/// Where a request comes from: the last address before those that are trusted. Nobody else's word counts, or
/// everybody could be anybody.
fn client_addr<'a>(
    peer: IpAddr,
    forwarded: impl Iterator<Item = &'a str>,
    trusted_proxies: &[IpNet],
) -> IpAddr {
    let is_trusted = |addr: &IpAddr| trusted_proxies.iter().any(|network| network.contains(addr));
    let mut client = peer.to_canonical();
    if !is_trusted(&client) {
        return client;
    }
    let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).collect();
    for hop in hops.iter().rev().take(FORWARDED_MAX) {
        let hop = hop.trim();
        let addr = hop.parse().or_else(|_| hop.parse().map(|with_port: std::net::SocketAddr| with_port.ip()));
        // What can't be read is not the word of a proxy that we know.
        let Ok(addr): Result<IpAddr, _> = addr else {
            return client;
        };
        client = addr.to_canonical();
        if !is_trusted(&client) {
            return client;
        }
    }
    client
}

/// An IPv6 client has at least a /64 of its own to take addresses from.
pub(crate) fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        client_addr(peer.parse().unwrap(), forwarded.iter().copied(), &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        // What the client itself wrote stands before what the proxy added.
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "203.0.113.9,10.0.0.2"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["203.0.113.9:1234"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:1234"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    /// Over the port every client of a test is loopback.
    #[test]
    fn an_insider_is_on_this_machine_or_has_the_token() {
        let door = Door::new(Some(Secret::from(b"s3cret".to_vec())), vec![], vec![]);
        let is_insider = |peer: &str, name: &str, value: &str| {
            let request = TestRequest::default().peer_addr(peer.parse().unwrap());
            door.is_insider(&request.insert_header((name, value)).to_http_request())
        };
        for (peer, name, value, want) in [
            ("127.0.0.1:1", "host", "127.0.0.1", true),
            ("[::1]:1", "host", "localhost", true),
            ("[::ffff:127.0.0.1]:1", "host", "localhost", true),
            ("127.0.0.1:1", "host", "evil.example", false),
            ("127.0.0.1:1", "x-forwarded-for", "127.0.0.1", false),
            ("192.0.2.1:1", "host", "127.0.0.1", false),
            ("[2001:db8::1]:1", "host", "localhost", false),
            ("192.0.2.1:1", "authorization", "Bearer s3cret", true),
            ("192.0.2.1:1", "authorization", "Bearer wrong", false),
        ] {
            assert_eq!(is_insider(peer, name, value), want, "{peer} {name}: {value}");
        }
        let open = Door::new(None, vec![], vec![]);
        let request = TestRequest::default().peer_addr("192.0.2.1:1".parse().unwrap());
        assert!(!open.is_insider(&request.to_http_request()), "no token is not the token");
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let network = |addr: &str| network_of(addr.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
