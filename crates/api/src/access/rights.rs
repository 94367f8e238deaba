//! Rights of a request: to query, and to see internal causes.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;

use crate::access::host::AllowedHosts;
use crate::access::token::Token;

/// Headers that proxies add to a request.
const PROXY_HEADERS: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// Error: a request may not query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It has no token, or a wrong one.
    #[error("missing or wrong bearer token")]
    NoToken,
    /// No token is set, and `Host` has a name that is not known to be this service's.
    #[error(
        "not served under this host name: use the address, add the name to ALLOWED_HOSTS, or set API_TOKEN"
    )]
    UnknownHost,
}

/// Checks that a request may query.
///
/// # Errors
/// [`Denied`].
pub(crate) fn may_query(
    headers: &HeaderMap,
    token: Option<&Token>,
    allowed_hosts: &AllowedHosts,
) -> Result<(), Denied> {
    match token {
        Some(token) if !token.is_in(headers) => Err(Denied::NoToken),
        None if !allowed_hosts.is_ours(headers) => Err(Denied::UnknownHost),
        _ => Ok(()),
    }
}

/// Returns true if a request may see internal causes: it carries the token, or it comes from this machine and through
/// no proxy.
pub(crate) fn is_insider(request: &HttpRequest, token: Option<&Token>, allowed_hosts: &AllowedHosts) -> bool {
    let headers = request.headers();
    let has_token = token.is_some_and(|token| token.is_in(headers));
    let is_loopback = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let is_direct = PROXY_HEADERS.iter().all(|name| !headers.contains_key(*name));
    has_token || is_loopback && is_direct && allowed_hosts.is_ours(headers)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    /// Over the port every client of a test is loopback.
    #[test]
    fn an_insider_is_on_this_machine_or_has_the_token() {
        let token = Token::new(b"s3cret".to_vec().into());
        let hosts = AllowedHosts::new(vec![]);
        let is_insider = |peer: &str, name: &str, value: &str| {
            let request = TestRequest::default().peer_addr(peer.parse().unwrap());
            let request = request.insert_header((name, value)).to_http_request();
            super::is_insider(&request, Some(&token), &hosts)
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
        let request = TestRequest::default().peer_addr("192.0.2.1:1".parse().unwrap());
        let request = request.to_http_request();
        assert!(!super::is_insider(&request, None, &hosts), "no token is not the token");
    }
}
