//! The composition root: puts the ports' adapters and the routes together, and serves.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::web::Data;
use actix_web::{App as ActixApp, HttpServer};
use domain::ingest::Ingest;
use domain::query::MessageQuery;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustls::ServerConfig;
use slog::Logger;
use tokio::sync::Semaphore;

use crate::door::Door;
use crate::routes;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::request;

/// Bytes of all bodies under way, from the first byte of one until it is answered. A body's buffer may have
/// grown to twice what is in it; so these take up 128 MiB at most.
const BODIES_BYTES_MAX: usize = 64 << 20;

/// Connections of one worker, of which there are as many as cores. More wait to be accepted.
const CONNECTIONS_MAX: usize = 8192;

/// How long what was sent to a client may stay unread before its connection is cut: it holds memory of ours.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Connections that may wait to be accepted: a burst of new senders.
const BACKLOG: u32 = 1024;

/// For the head of a request to arrive whole.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a connection may idle between requests: more than the minute that most senders' pools keep
/// theirs, so that it is them who close it.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// For a client to stop sending after a refusal, before it is cut off.
const DISCONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// For the requests under way to end once the process was told to stop. The rest of the contract's ten
/// seconds is the store's.
const DRAIN_SECS_MAX: u64 = 7;

/// On every answer. They are for browsers, which have no business here but to be told so: nothing is to be
/// guessed, framed, kept or loaded (OWASP, "HTTP Security Response Headers Cheat Sheet", read 2026-11).
const SECURITY_HEADERS: [(&str, &str); 5] = [
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
];

/// All that a request can reach.
pub struct App {
    /// Receives webhooks.
    pub ingest: Ingest,
    /// Answers questions.
    pub query: Arc<dyn MessageQuery>,
    /// The log.
    pub log: Logger,
    /// The metrics.
    pub metrics: Metrics,
    /// Who may ask, and who knocks too often.
    pub door: Door,
    /// The largest request body.
    pub body_bytes_max: usize,
    /// Bytes that the bodies of all requests under way may still have, as [`bodies`] makes it.
    pub bodies: Semaphore,
}

impl App {
    /// # Errors
    /// Names what is missing to receive and to answer.
    pub async fn ready(&self) -> Result<(), String> {
        let mut missing = Vec::new();
        if let Err(error) = self.query.ready().await {
            missing.push(format!("database: {error}"));
        }
        if !self.ingest.has_secret() {
            missing.push("WEBHOOK_SECRET is not set".to_owned());
        }
        if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
    }
}

/// A fresh semaphore for [`App::bodies`].
#[must_use]
pub fn bodies() -> Semaphore {
    Semaphore::new(BODIES_BYTES_MAX)
}

/// Binds an address, before anything is made on disk.
///
/// # Errors
/// The address is taken, or not this machine's.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        if addr.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Connections inherit it from the socket that accepts them.
    let unread_ms = u32::try_from(UNREAD_TIME_MAX.as_millis()).expect("half a minute is a number of ms");
    set_tcp_user_timeout(&socket, unread_ms)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)?.into_std()
}

/// What comes in by one listener.
#[derive(Clone, Copy, Debug)]
pub enum Traffic {
    /// Webhooks and questions.
    All,
    /// Webhooks only.
    Webhooks,
    /// Questions only.
    Questions,
}

/// Serves `app` until the returned server is stopped; with `tls`, encrypted.
///
/// # Errors
/// The listener can't be used.
pub fn serve(
    app: Data<App>,
    listener: TcpListener,
    traffic: Traffic,
    tls: Option<ServerConfig>,
) -> io::Result<Server> {
    let routes: routes::Routes = match traffic {
        Traffic::All => routes::all,
        Traffic::Webhooks => routes::receiving,
        Traffic::Questions => routes::asking,
    };
    let server = HttpServer::new(move || {
        let headers = SECURITY_HEADERS.into_iter().fold(DefaultHeaders::new(), DefaultHeaders::add);
        ActixApp::new()
            .app_data(Data::clone(&app))
            .wrap(headers)
            .wrap(from_fn(request::observe))
            .configure(routes)
            .configure(routes::everywhere)
    })
    .client_request_timeout(HEAD_TIME_MAX)
    .client_disconnect_timeout(DISCONNECT_TIME_MAX)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(DRAIN_SECS_MAX)
    .max_connections(CONNECTIONS_MAX)
    .disable_signals();
    let server = match tls {
        None => server.listen(listener)?,
        Some(config) => server.listen_rustls_0_23(listener, config)?,
    };
    Ok(server.run())
}
