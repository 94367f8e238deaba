//! The settings as flags and variables, still text: what is asked of clap is here, what they mean is not.

use std::ffi::OsString;

/// Serve: receive webhooks, answer queries (also the default).
///
/// Makes the database if it is not there, brings its schema up to date, listens, and logs one JSON
/// object a line to standard output. SIGTERM or SIGINT: finishes what was accepted and ends with 0.
/// SIGHUP reads TLS_CERT and TLS_KEY anew, SIGUSR1 switches between LOG_LEVEL and DEBUG.
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

/// Where the messages are kept.
#[derive(clap::Args)]
pub struct DatabaseArgs {
    /// Where messages are kept: sqlite:/// and a path (four slashes: an absolute one)
    /// [default: sqlite:///data/app.db]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<OsString>,
}

/// What signs and verifies.
#[derive(clap::Args)]
pub struct SecretArgs {
    /// HMAC key of the default source. Prefer the environment: arguments can be seen by other users
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true)]
    pub webhook_secret: Option<OsString>,
    /// File that holds it, as container secrets do; a last line break is not part of it
    #[arg(long, env = "WEBHOOK_SECRET_FILE", hide_env_values = true)]
    pub webhook_secret_file: Option<OsString>,
}

/// Where requests come in.
#[derive(clap::Args)]
pub struct BindArgs {
    /// Listening address, IP:PORT (port 0 takes a free one) or unix:PATH. A socket that systemd opened (LISTEN_FDS)
    /// takes its place [default: 127.0.0.1:8000]
    #[arg(long, env = "BIND_ADDR", hide_env_values = true)]
    pub bind_addr: Option<OsString>,
}

/// Where questions come in, if not where webhooks do.
#[derive(clap::Args)]
pub struct OpsBindArgs {
    /// A second listening address, IP:PORT, that everything but webhooks and health moves to, so that only
    /// they are on the first
    #[arg(long, env = "OPS_BIND_ADDR", hide_env_values = true)]
    pub ops_bind_addr: Option<OsString>,
}

/// Who may ask.
#[derive(clap::Args)]
pub struct TokenArgs {
    /// Bearer token that everything but webhooks and health then wants. Prefer the environment
    #[arg(long, env = "API_TOKEN", hide_env_values = true)]
    pub api_token: Option<OsString>,
    /// File that holds it; a last line break is not part of it
    #[arg(long, env = "API_TOKEN_FILE", hide_env_values = true)]
    pub api_token_file: Option<OsString>,
}

/// Whose word counts on where a request comes from.
#[derive(clap::Args)]
pub struct ProxyArgs {
    /// Addresses or networks, with commas, of proxies whose X-Forwarded-For is believed
    #[arg(long, env = "TRUSTED_PROXIES", hide_env_values = true)]
    pub trusted_proxies: Option<OsString>,
}

/// Under which names questions are answered.
#[derive(clap::Args)]
pub struct HostArgs {
    /// Host names, with commas, that questions may come under without API_TOKEN. Addresses and names without a dot,
    /// as localhost, always may: what resolves to them is not a stranger's to say
    #[arg(long, env = "ALLOWED_HOSTS", hide_env_values = true)]
    pub allowed_hosts: Option<OsString>,
}

/// How connections are encrypted.
#[derive(clap::Args)]
pub struct TlsArgs {
    /// Certificate chain in PEM; with TLS_KEY, all listening is TLS
    #[arg(long, env = "TLS_CERT", hide_env_values = true)]
    pub tls_cert: Option<OsString>,
    /// Private key of the certificate in PEM. SIGHUP reads both anew
    #[arg(long, env = "TLS_KEY", hide_env_values = true)]
    pub tls_key: Option<OsString>,
}

/// What is logged.
#[derive(clap::Args)]
pub struct LogArgs {
    /// ERROR, WARN, INFO or DEBUG, in any case [default: INFO]
    #[arg(long, env = "LOG_LEVEL", hide_env_values = true)]
    pub log_level: Option<OsString>,
}

/// How long things are kept.
#[derive(clap::Args)]
pub struct RetentionArgs {
    /// Days from its arrival that a message is kept, 1 to 36500 [default: for ever]
    #[arg(long, env = "RETENTION_DAYS", hide_env_values = true)]
    pub retention_days: Option<OsString>,
    /// Days that a repeat of a message is known as a duplicate though it is kept no longer, RETENTION_DAYS to
    /// 36500 [default: for ever]
    #[arg(long, env = "DEDUPE_DAYS", hide_env_values = true)]
    pub dedupe_days: Option<OsString>,
}

/// What is let in.
#[derive(clap::Args)]
pub struct LimitArgs {
    /// Largest request body in bytes, 1 to 16777216 [default: 1048576]
    #[arg(long, env = "BODY_BYTES_MAX", hide_env_values = true)]
    pub body_bytes_max: Option<OsString>,
    /// Most connections from one address (IPv6: one /64 network) that is not one of TRUSTED_PROXIES, 1 to 8192
    /// [default: 1024]
    #[arg(long, env = "CLIENT_CONNECTIONS_MAX", hide_env_values = true)]
    pub client_connections_max: Option<OsString>,
}
