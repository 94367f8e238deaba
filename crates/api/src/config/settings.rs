//! Readers of the settings: each parses one, and they collect the mistakes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use domain::retention::Retention;
use ipnet::IpNet;
use slog::Level;

use super::args::{
    BindArgs, DatabaseArgs, HostArgs, LimitArgs, LogArgs, OpsBindArgs, ProxyArgs, RetentionArgs, SecretArgs,
    TlsArgs, TokenArgs,
};
use super::secret::Secret;
use super::{database_url, secret};
use crate::access::host;
pub use crate::limits::bodies::BODY_BYTES_MAX_LIMIT;
use crate::transport::listener::Address;
use crate::transport::open_files::CONNECTIONS_MAX;
use crate::transport::tls::TlsFiles;

/// `DATABASE_URL` if it is not set.
const DATABASE_URL_DEFAULT: &str = "sqlite:///data/app.db";

/// `BIND_ADDR` if it is not set: only this machine can connect.
pub const BIND_ADDR_DEFAULT: &str = "127.0.0.1:8000";

/// `LOG_LEVEL` if it is not set.
const LOG_LEVEL_DEFAULT: &str = "INFO";

/// `BODY_BYTES_MAX` if it is not set: no provider's webhook comes near it.
pub const BODY_BYTES_MAX_DEFAULT: &str = "1048576";

/// `CLIENT_CONNECTIONS_MAX` if it is not set: an eighth of all connections, more than any sender's pool.
const CLIENT_CONNECTIONS_MAX_DEFAULT: &str = "1024";

/// The longest retention: a century, which is a mistake rather than a wish.
const RETENTION_DAYS_MAX: u32 = 36_500;

const DEDUPE_DAYS_ALLOWED: &str =
    "a number of days from RETENTION_DAYS to 36500, set only with RETENTION_DAYS";

/// Mistakes in the configuration: all of them, so that one start reports them together.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not valid")?;
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

/// Reader of settings that collects their mistakes.
#[derive(Default)]
pub struct Settings {
    mistakes: Vec<String>,
}

impl Settings {
    /// Parses one setting; an empty one counts as not set. A mistake is noted and read as `None`.
    fn setting<T>(
        &mut self,
        variable: &'static str,
        value: Option<&OsStr>,
        default: &str,
        parse: fn(&str) -> Option<T>,
        allowed: &'static str,
    ) -> Option<T> {
        let value = value.filter(|v| !v.is_empty()).unwrap_or(OsStr::new(default));
        let parsed = value.to_str().and_then(parse);
        if parsed.is_none() {
            self.mistake(variable, value, allowed);
        }
        parsed
    }

    fn mistake(&mut self, variable: &str, value: &OsStr, allowed: impl fmt::Display) {
        let value = without_credentials(&value.to_string_lossy());
        self.mistakes.push(format!("{variable} is {value:?}, but must be {allowed}"));
    }

    /// Returns a setting that was found, or notes its mistake.
    fn noting<T>(&mut self, found: Result<Option<T>, String>) -> Option<T> {
        found.unwrap_or_else(|mistake| {
            self.mistakes.push(mistake);
            None
        })
    }

    /// Returns the path of the database.
    pub fn database_path(&mut self, args: &DatabaseArgs) -> Option<PathBuf> {
        let url = args.database_url.as_deref().filter(|url| !url.is_empty());
        let url = url.unwrap_or(OsStr::new(DATABASE_URL_DEFAULT));
        let parsed = url.to_str().ok_or_else(|| "text in UTF-8".to_owned()).and_then(database_url::parse);
        parsed.map_err(|allowed| self.mistake("DATABASE_URL", url, allowed)).ok()
    }

    /// Returns the address to listen on.
    pub fn bind_addr(&mut self, args: &BindArgs) -> Option<Address> {
        self.setting(
            "BIND_ADDR",
            args.bind_addr.as_deref(),
            BIND_ADDR_DEFAULT,
            Address::parse,
            "IP:PORT, as in 127.0.0.1:8000 or [::]:8000, or unix: and a path, as in unix:/run/hookkeeper.sock",
        )
    }

    /// Returns the webhook secret; `None` if it is not set or empty. NUL bytes alone are empty, too: HMAC fills a key
    /// up with them.
    pub fn webhook_secret(&mut self, args: &SecretArgs) -> Option<Secret> {
        let value = args.webhook_secret.as_deref();
        let secret = secret::read("WEBHOOK_SECRET", value, args.webhook_secret_file.as_deref());
        let secret = self.noting(secret).filter(|secret| secret.iter().any(|byte| *byte != 0));
        secret.map(Secret::from)
    }

    /// Returns the token of everything but webhooks and health; `None` leaves them open.
    pub fn api_token(&mut self, args: &TokenArgs) -> Option<Secret> {
        let token = secret::read("API_TOKEN", args.api_token.as_deref(), args.api_token_file.as_deref());
        let token = token.and_then(|token| token.map(|token| secret::token("API_TOKEN", &token)).transpose());
        self.noting(token).map(Secret::from)
    }

    /// Returns the second address to listen on, if it is set.
    pub fn ops_bind_addr(&mut self, args: &OpsBindArgs) -> Option<Address> {
        let addr = args.ops_bind_addr.as_deref().filter(|a| !a.is_empty())?;
        self.setting(
            "OPS_BIND_ADDR",
            Some(addr),
            "",
            Address::parse,
            "IP:PORT, as in 127.0.0.1:9000, or unix: and a path, or not set",
        )
    }

    /// Returns the proxies whose `X-Forwarded-For` is trusted.
    pub fn trusted_proxies(&mut self, args: &ProxyArgs) -> Option<Vec<IpNet>> {
        self.setting(
            "TRUSTED_PROXIES",
            args.trusted_proxies.as_deref(),
            "",
            |list| {
                let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
                parts.map(parse_network).collect()
            },
            "addresses or networks separated by commas, as in 10.0.0.1,192.168.0.0/16",
        )
    }

    /// Returns the host names under which queries are answered without a token.
    pub fn allowed_hosts(&mut self, args: &HostArgs) -> Option<Vec<String>> {
        self.setting(
            "ALLOWED_HOSTS",
            args.allowed_hosts.as_deref(),
            "",
            host::parse_list,
            "host names without scheme or port, separated by commas, as in inbox.example.com",
        )
    }

    /// Returns the files of certificate and key, if both are set.
    pub fn tls(&mut self, args: &TlsArgs) -> Option<TlsFiles> {
        let path = |arg: &Option<OsString>| arg.as_deref().filter(|p| !p.is_empty()).map(PathBuf::from);
        match (path(&args.tls_cert), path(&args.tls_key)) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (cert, _) => {
                let missing = if cert.is_some() { "TLS_KEY" } else { "TLS_CERT" };
                self.mistakes
                    .push(format!("{missing} is not set: set both TLS_CERT and TLS_KEY, or neither"));
                None
            }
        }
    }

    /// Returns the least level that is logged.
    pub fn log_level(&mut self, args: &LogArgs) -> Option<Level> {
        self.setting(
            "LOG_LEVEL",
            args.log_level.as_deref(),
            LOG_LEVEL_DEFAULT,
            |level| match level.to_ascii_uppercase().as_str() {
                "ERROR" => Some(Level::Error),
                "WARN" => Some(Level::Warning),
                "INFO" => Some(Level::Info),
                "DEBUG" => Some(Level::Debug),
                _ => None,
            },
            "ERROR, WARN, INFO or DEBUG, in any case",
        )
    }

    /// Returns the largest size of a body.
    pub fn body_bytes_max(&mut self, args: &LimitArgs) -> Option<usize> {
        self.setting(
            "BODY_BYTES_MAX",
            args.body_bytes_max.as_deref(),
            BODY_BYTES_MAX_DEFAULT,
            |bytes| bytes.parse().ok().filter(|n| (1..=BODY_BYTES_MAX_LIMIT).contains(n)),
            "a number of bytes from 1 to 16777216",
        )
    }

    /// Returns the most connections of one client.
    pub fn client_connections_max(&mut self, args: &LimitArgs) -> Option<usize> {
        self.setting(
            "CLIENT_CONNECTIONS_MAX",
            args.client_connections_max.as_deref(),
            CLIENT_CONNECTIONS_MAX_DEFAULT,
            |n| n.parse().ok().filter(|n| (1..=CONNECTIONS_MAX).contains(n)),
            "a number of connections from 1 to 8192",
        )
    }

    /// Returns the time for which messages and keys are kept.
    pub fn retention(&mut self, args: &RetentionArgs) -> Retention {
        let mut days = |variable, value: &Option<OsString>, allowed| {
            let value = value.as_deref().filter(|v| !v.is_empty())?;
            let days: fn(&str) -> Option<u32> =
                |days| days.parse().ok().filter(|n| (1..=RETENTION_DAYS_MAX).contains(n));
            self.setting(variable, Some(value), "", days, allowed)
        };
        let message_days = days("RETENTION_DAYS", &args.retention_days, "a number of days from 1 to 36500");
        let key_days = days("DEDUPE_DAYS", &args.dedupe_days, DEDUPE_DAYS_ALLOWED);
        // A message that is kept longer than its key would be stored twice.
        if let Some(days) = key_days.filter(|days| message_days.is_none_or(|kept| kept > *days)) {
            self.mistake("DEDUPE_DAYS", OsStr::new(&days.to_string()), DEDUPE_DAYS_ALLOWED);
        }
        let duration = |days: u32| Duration::from_secs(24 * 3600) * days;
        Retention { messages: message_days.map(duration), keys: key_days.map(duration) }
    }

    /// Returns `parsed` if there was no mistake. It may be `None` only if there was one.
    ///
    /// # Errors
    /// The mistakes.
    pub fn or_mistakes<T>(self, parsed: Option<T>) -> Result<T, ConfigError> {
        parsed.filter(|_| self.mistakes.is_empty()).ok_or(ConfigError(self.mistakes))
    }
}

/// Hides the password that the URL of another kind of database may have: `scheme://user:password@host`.
fn without_credentials(value: &str) -> String {
    match value.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://[redacted]@{host}"),
            None => value.to_owned(),
        },
        None => value.to_owned(),
    }
}

fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}
