//! Settings as flags and variables, still text. [`settings`](super::settings) parses them.

use std::ffi::OsString;

/// Serve: receive webhooks, answer queries (also the default).
///
/// Creates the database if it does not exist, brings its schema up to date, listens, and logs one JSON object a line
/// to standard output. SIGTERM or SIGINT finishes the requests that were accepted and exits with 0. SIGHUP reloads
/// TLS_CERT and TLS_KEY. SIGUSR1 switches between LOG_LEVEL and DEBUG.
#[derive(clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub(super) database: DatabaseArgs,
    #[command(flatten)]
    pub(super) secret: SecretArgs,
    #[command(flatten)]
    pub(super) bind: BindArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
    #[command(flatten)]
    pub(super) limit: LimitArgs,
    #[command(flatten)]
    pub(super) token: TokenArgs,
    #[command(flatten)]
    pub(super) ops_bind: OpsBindArgs,
    #[command(flatten)]
    pub(super) proxy: ProxyArgs,
    #[command(flatten)]
    pub(super) host: HostArgs,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    #[command(flatten)]
    pub(super) retention: RetentionArgs,
}

/// Setting of the database.
#[derive(clap::Args)]
pub struct DatabaseArgs {
    /// Database file: sqlite:/// and a path (an absolute path gives four slashes)
    /// [default: sqlite:///data/app.db]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<OsString>,
}

/// Settings of the webhook secret.
#[derive(clap::Args)]
pub struct SecretArgs {
    /// HMAC key of the default source. Prefer the environment: other users can see arguments
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true)]
    pub webhook_secret: Option<OsString>,
    /// File that holds WEBHOOK_SECRET, such as a container secret. A line break at its end is ignored
    #[arg(long, env = "WEBHOOK_SECRET_FILE", hide_env_values = true)]
    pub webhook_secret_file: Option<OsString>,
}

/// Setting of the listening address.
#[derive(clap::Args)]
pub struct BindArgs {
    /// Listening address, IP:PORT (port 0 takes a free one) or unix:PATH. A socket that systemd opened (LISTEN_FDS)
    /// is used instead [default: 127.0.0.1:8000]
    #[arg(long, env = "BIND_ADDR", hide_env_values = true)]
    pub bind_addr: Option<OsString>,
}

/// Setting of the second listening address.
#[derive(clap::Args)]
pub struct OpsBindArgs {
    /// Serve /messages, /stats, /metrics and /openapi.json on this IP:PORT or unix:PATH instead of BIND_ADDR
    #[arg(long, env = "OPS_BIND_ADDR", hide_env_values = true)]
    pub ops_bind_addr: Option<OsString>,
}

/// Settings of the API token.
#[derive(clap::Args)]
pub struct TokenArgs {
    /// Bearer token required on every endpoint except /webhook and /health/*. Prefer the environment
    #[arg(long, env = "API_TOKEN", hide_env_values = true)]
    pub api_token: Option<OsString>,
    /// File that holds API_TOKEN. A line break at its end is ignored
    #[arg(long, env = "API_TOKEN_FILE", hide_env_values = true)]
    pub api_token_file: Option<OsString>,
}

/// Setting of the trusted proxies.
#[derive(clap::Args)]
pub struct ProxyArgs {
    /// Addresses or networks of the proxies whose X-Forwarded-For is trusted, separated by commas
    #[arg(long, env = "TRUSTED_PROXIES", hide_env_values = true)]
    pub trusted_proxies: Option<OsString>,
}

/// Setting of the host names under which queries are answered.
#[derive(clap::Args)]
pub struct HostArgs {
    /// Host names under which queries are answered without API_TOKEN, separated by commas. IP addresses and names
    /// without a dot, such as localhost, are always allowed
    #[arg(long, env = "ALLOWED_HOSTS", hide_env_values = true)]
    pub allowed_hosts: Option<OsString>,
}

/// Settings of TLS.
#[derive(clap::Args)]
pub struct TlsArgs {
    /// PEM certificate chain. With TLS_KEY, turns on TLS for every TCP listener
    #[arg(long, env = "TLS_CERT", hide_env_values = true)]
    pub tls_cert: Option<OsString>,
    /// PEM private key of the certificate. Send SIGHUP to reload both
    #[arg(long, env = "TLS_KEY", hide_env_values = true)]
    pub tls_key: Option<OsString>,
}

/// Setting of the log.
#[derive(clap::Args)]
pub struct LogArgs {
    /// ERROR, WARN, INFO or DEBUG, in any case [default: INFO]
    #[arg(long, env = "LOG_LEVEL", hide_env_values = true)]
    pub log_level: Option<OsString>,
}

/// Settings of retention.
#[derive(clap::Args)]
pub struct RetentionArgs {
    /// Days to keep a message after its arrival, 1 to 36500 [default: for ever]
    #[arg(long, env = "RETENTION_DAYS", hide_env_values = true)]
    pub retention_days: Option<OsString>,
    /// Days in which a repeated message_id is still recognised as a duplicate, RETENTION_DAYS to 36500
    /// [default: for ever]
    #[arg(long, env = "DEDUPE_DAYS", hide_env_values = true)]
    pub dedupe_days: Option<OsString>,
}

/// Settings of the limits.
#[derive(clap::Args)]
pub struct LimitArgs {
    /// Largest request body in bytes, 1 to 16777216 [default: 1048576]
    #[arg(long, env = "BODY_BYTES_MAX", hide_env_values = true)]
    pub body_bytes_max: Option<OsString>,
    /// Most connections from one address (IPv6: from one /64 network), 1 to 8192. TRUSTED_PROXIES may have more
    /// [default: 1024]
    #[arg(long, env = "CLIENT_CONNECTIONS_MAX", hide_env_values = true)]
    pub client_connections_max: Option<OsString>,
}
