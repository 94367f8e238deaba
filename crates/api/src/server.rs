//! Server: a listener and the [`App`] become a running HTTP server. It knows no store and no configuration.

use std::future::ready;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::App as ActixApp;
use actix_web::dev::AppConfig;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::rt::net::{TcpStream, UnixStream};
use actix_web::web::Data;
use rustls::ServerConfig;

use crate::middleware::observe::observe;
use crate::router::{self, Routes};
use crate::state::App;
use crate::transport::connection::Connection;
use crate::transport::exchange::answer_one_request;
use crate::transport::handshake::Handshakes;
use crate::transport::large_heads::{self, Heads};
use crate::transport::listener::Listener;
use crate::transport::permits::{Permit, Permits};
use crate::transport::socket::Socket;
use crate::transport::time_limits::KEEP_ALIVE;

/// Eighths of the connections without TLS that there may be with TLS: each takes up to 64 KiB in place of 40.
const TLS_CONNECTIONS_OF_8: usize = 5;

/// Time that a client has to stop sending after a refusal, before it is cut off.
const DISCONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Address of a client that connects by a unix socket, and so from this machine. It is mostly a proxy, which this
/// address names in `TRUSTED_PROXIES`.
const UNIX_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Seconds that requests under way have to end after a signal to stop. The store has the rest of the contract's ten.
const DRAIN_SECS_MAX: u64 = 7;

/// Headers of every answer that does not set them itself. They forbid browsers to guess a type and to frame, keep or
/// load anything (OWASP, "HTTP Security Response Headers Cheat Sheet", read 2026-11). A page for browsers sets its own.
const SECURITY_HEADERS: [(&str, &str); 5] = [
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
];

/// Requests that a listener serves, beside health.
#[derive(Clone, Copy, Debug)]
pub enum Traffic {
    /// Webhooks and queries.
    All,
    /// Only webhooks.
    Webhooks,
    /// Only queries.
    Queries,
}

/// Limits of the connections of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections of all clients, including those that are being closed.
    pub all_max: usize,
    /// Connections of one client that is not a trusted proxy.
    pub client_max: usize,
}

/// Serves `app` until the returned server is stopped. A TCP listener uses TLS if there is a `tls`. When the limit of
/// connections is reached, the one that has idled longest is closed.
///
/// # Errors
/// The listener can't be used.
pub fn serve(
    app: Data<App>,
    listener: impl Into<Listener>,
    traffic: Traffic,
    tls: Option<ServerConfig>,
    limits: ConnectionLimits,
) -> io::Result<Server> {
    let n_workers = available_parallelism().map_or(1, NonZero::get);
    let all_max = match tls {
        None => limits.all_max,
        Some(_) => (limits.all_max * TLS_CONNECTIONS_OF_8 / 8).max(1),
    };
    let server = Server::build()
        .workers(n_workers)
        .max_concurrent_connections(all_max.div_ceil(n_workers).max(1))
        .shutdown_timeout(DRAIN_SECS_MAX)
        .disable_signals();
    let stopping = server.graceful_shutdown_signal();
    let listener = listener.into();
    let name = listener.address()?.to_string();
    let entrance = Entrance {
        permits: Permits::new(all_max, limits.client_max, app.metrics.connections()),
        heads: large_heads::heads(),
        app,
    };
    let server = match (listener, tls) {
        (Listener::Unix(listener), _) => server.listen_uds(name, listener, move || {
            let http = http(Data::clone(&entrance.app), traffic, stopping.clone());
            let entrance = entrance.clone();
            fn_service(move |unix: UnixStream| {
                let entered = entrance.enter(UNIX_PEER);
                ready(entered.map(|permit| entrance.connection(unix, UNIX_PEER, permit)).ok_or(()))
            })
            .and_then(http.map_err(drop))
        })?,
        (Listener::Tcp(listener), None) => server.listen(name, listener, move || {
            let http = http(Data::clone(&entrance.app), traffic, stopping.clone());
            let entrance = entrance.clone();
            fn_service(move |tcp: TcpStream| {
                let entered = tcp.peer_addr().ok().and_then(|peer| Some((peer, entrance.enter(peer)?)));
                ready(entered.map(|(peer, permit)| entrance.connection(tcp, peer, permit)).ok_or(()))
            })
            .and_then(http.map_err(drop))
        })?,
        (Listener::Tcp(listener), Some(config)) => {
            let handshakes = Handshakes::new(config, entrance.app.metrics.handshakes());
            server.listen(name, listener, move || {
                let http = http(Data::clone(&entrance.app), traffic, stopping.clone());
                let (entrance, handshakes) = (entrance.clone(), handshakes.clone());
                fn_service(move |tcp: TcpStream| {
                    let (entrance, handshakes) = (entrance.clone(), handshakes.clone());
                    async move {
                        let peer = tcp.peer_addr().map_err(drop)?;
                        let permit = entrance.enter(peer).ok_or(())?;
                        let has_all = entrance.app.trusted_proxies.contains(peer.ip());
                        let tls = handshakes.accept(tcp, peer.ip(), has_all, &permit).await.ok_or(())?;
                        Ok(entrance.connection(tls, peer, permit))
                    }
                })
                .and_then(http.map_err(drop))
            })?
        }
    };
    Ok(server.run())
}

/// Entrance of a listener: admits or refuses connections.
#[derive(Clone)]
struct Entrance {
    app: Data<App>,
    permits: Arc<Permits>,
    heads: Heads,
}

impl Entrance {
    /// Returns the permit of a new connection; `None` if there is none for it.
    fn enter(&self, peer: SocketAddr) -> Option<Permit> {
        self.permits.take(peer.ip(), self.app.trusted_proxies.contains(peer.ip()))
    }

    fn connection<IO>(
        &self,
        io: IO,
        peer: SocketAddr,
        permit: Permit,
    ) -> (Connection<IO>, Option<SocketAddr>) {
        (Connection::new(io, peer.ip(), permit, Arc::clone(&self.heads)), Some(peer))
    }
}

/// Returns the service of one connection, built as `actix_web::HttpServer` builds it, but around our [`Connection`].
fn http<IO: Socket + 'static>(
    app: Data<App>,
    traffic: Traffic,
    stopping: GracefulShutdownSignal,
) -> impl ServiceFactory<
    (Connection<IO>, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> {
    let routes: Routes = match traffic {
        Traffic::All => router::all,
        Traffic::Webhooks => router::webhooks,
        Traffic::Queries => router::queries,
    };
    let headers = SECURITY_HEADERS.into_iter().fold(DefaultHeaders::new(), DefaultHeaders::add);
    let requests = ActixApp::new()
        .app_data(app)
        .wrap(from_fn(observe))
        .wrap(headers)
        .wrap(from_fn(answer_one_request))
        .configure(routes)
        .configure(router::everywhere)
        .into_factory();
    HttpService::build()
        // `Connection` limits the time of heads.
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(DISCONNECT_TIME_MAX)
        .keep_alive(KEEP_ALIVE)
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .on_connect_ext(|connection: &Connection<IO>, data| {
            data.insert(connection.exchange());
        })
        .h1(map_config(requests, |()| AppConfig::default()))
}
