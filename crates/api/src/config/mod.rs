//! Configuration: text from flags and environment in, one struct that can't be wrong out, or every
//! mistake at once.

mod args;
mod database_url;
pub(crate) mod secret;
mod settings;

use std::path::PathBuf;

use domain::retention::Retention;
use ipnet::IpNet;
use slog::Level;

use crate::transport::listener::Address;
use crate::transport::tls::TlsFiles;

pub use args::{
    BindArgs, DatabaseArgs, HostArgs, LimitArgs, LogArgs, OpsBindArgs, ProxyArgs, RetentionArgs, SecretArgs,
    ServeArgs, TlsArgs, TokenArgs,
};
pub use secret::Secret;
pub use settings::{BIND_ADDR_DEFAULT, BODY_BYTES_MAX_DEFAULT, BODY_BYTES_MAX_LIMIT, ConfigError, Settings};

/// Configuration of `hookkeeper serve`, which can't be wrong.
pub(crate) struct Config {
    pub(crate) database_path: PathBuf,
    pub(crate) secret: Option<Secret>,
    pub(crate) bind_addr: Address,
    pub(crate) log_level: Level,
    pub(crate) body_bytes_max: usize,
    pub(crate) client_connections_max: usize,
    pub(crate) api_token: Option<Secret>,
    pub(crate) ops_bind_addr: Option<Address>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) retention: Retention,
}

impl Config {
    /// Reads the configuration from flags and environment.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(crate) fn read(args: &ServeArgs) -> Result<Self, ConfigError> {
        let mut settings = Settings::default();
        let database_path = settings.database_path(&args.database);
        let secret = settings.webhook_secret(&args.secret);
        let bind_addr = settings.bind_addr(&args.bind);
        let log_level = settings.log_level(&args.log);
        let body_bytes_max = settings.body_bytes_max(&args.limit);
        let client_connections_max = settings.client_connections_max(&args.limit);
        let api_token = settings.api_token(&args.token);
        let ops_bind_addr = settings.ops_bind_addr(&args.ops_bind);
        let trusted_proxies = settings.trusted_proxies(&args.proxy);
        let allowed_hosts = settings.allowed_hosts(&args.host);
        let tls = settings.tls(&args.tls);
        let retention = settings.retention(&args.retention);
        let parsed = (|| {
            Some(Self {
                database_path: database_path?,
                secret,
                bind_addr: bind_addr?,
                log_level: log_level?,
                body_bytes_max: body_bytes_max?,
                client_connections_max: client_connections_max?,
                api_token,
                ops_bind_addr,
                trusted_proxies: trusted_proxies?,
                allowed_hosts: allowed_hosts?,
                tls,
                retention,
            })
        })();
        settings.or_mistakes(parsed)
    }
}
