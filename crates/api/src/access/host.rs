//! Host names under which queries are answered if no token protects them.
//!
//! A web page in an operator's browser can't read the answers of another site. But the owner of the page can let the
//! page's own name resolve to 127.0.0.1 at the second look-up (DNS rebinding), and then the browser takes this service
//! for the page's site. The name is still in `Host`.

use std::net::{Ipv6Addr, SocketAddr};

use actix_web::http::header::{HOST, HeaderMap};

/// Names of this service (`ALLOWED_HOSTS`).
pub(crate) struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Returns true if a request names this service by an address, by an allowed name, or by a name without a dot
    /// (localhost, a container's): no such name is sold, so no stranger decides where it leads. A request without
    /// `Host` does not come from a browser and passes, too.
    pub(crate) fn is_ours(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(HOST);
        match (values.next().map(|host| host.to_str()), values.next()) {
            (None, _) => true,
            (Some(Ok(host)), None) => {
                let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
                is_address(host)
                    || !name.contains(['.', ':'])
                    || self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
            }
            _ => false,
        }
    }
}

/// Returns true for an IPv4 address or an IPv6 address in brackets, with or without a port.
fn is_address(host: &str) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.parse::<SocketAddr>().is_ok()
        || host.parse::<std::net::Ipv4Addr>().is_ok()
        || in_brackets.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

/// Parses `ALLOWED_HOSTS`: names, separated by commas.
pub(crate) fn parse_list(list: &str) -> Option<Vec<String>> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let is_name = |name: &str| name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
    names.map(|name| is_name(name).then(|| name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn is_ours_with(hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        AllowedHosts::new(parse_list("inbox.example, Other.example").unwrap()).is_ours(&headers)
    }

    #[test]
    fn an_address_a_local_name_and_an_allowed_one_are_ours_and_a_strangers_is_not() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8000",
            "192.0.2.7:80",
            "[::1]",
            "[::1]:8000",
            "localhost",
            "LocalHost:8000",
            "api:8000",
            "inbox.example",
            "INBOX.example:443",
            "other.example",
            "",
        ] {
            assert!(is_ours_with(&[host]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "inbox.example.evil.example",
            "x.inbox.example",
            "evil.example.",
            "inbox.example:443:evil",
            "::1",
            "[evil.example]",
            "[::1].evil.example",
            "user@evil.example",
        ] {
            assert!(!is_ours_with(&[host]), "{host}");
        }
        assert!(is_ours_with(&[]));
        assert!(!is_ours_with(&["localhost", "evil.example"]));
        assert!(!is_ours_with(&["localhost", "localhost"]));
    }

    #[test]
    fn a_list_has_names_without_ports() {
        assert_eq!(parse_list(""), Some(vec![]));
        assert_eq!(
            parse_list("a.example,,b.example "),
            Some(vec!["a.example".to_owned(), "b.example".to_owned()])
        );
        for list in ["a.example:8000", "http://a.example", "a example", "*"] {
            assert_eq!(parse_list(list), None, "{list}");
        }
    }
}
