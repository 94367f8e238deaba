//! The composition root: puts the ports' adapters and the routes together, and serves.

use std::future::ready;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZero;
use std::os::fd::AsFd;
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
use domain::ingest::Ingest;
use domain::query::MessageQuery;
use domain::source::Source;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustls::ServerConfig;
use slog::Logger;
use tokio::sync::Semaphore;

use crate::access::refusals::Door;
use crate::limits::bodies::Bodies;
use crate::limits::queries::Questions;
use crate::middleware::observe as request;
use crate::router as routes;
use crate::telemetry::metrics::Metrics;
use crate::transport::connection::Connection;
use crate::transport::exchange::answer_one_request;
use crate::transport::handshake::Handshakes;
use crate::transport::large_heads::{self, Heads};
use crate::transport::listener::Listener;
use crate::transport::permits::{Permit, Permits};
use crate::transport::socket::Socket;
use crate::transport::time_limits::KEEP_ALIVE;

/// Bytes of all listings that are being sent. Beside them there are those that are being read and put together,
/// as many as the store answers at once.
const LISTINGS_BYTES_MAX: usize = 64 << 20;

/// How long what was sent to a client may stay unread before its connection is cut: it holds memory of ours.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Connections that may wait to be accepted: a burst of new senders.
const BACKLOG: u32 = 1024;

/// Connections with TLS are so many eighths of those without: each takes up to 64 KiB in place of 40.
const TLS_CONNECTIONS_OF_8: usize = 5;

/// For a client to stop sending after a refusal, before it is cut off.
const DISCONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Who connects by a unix socket is on this machine. It is mostly a proxy, which this address names in
/// `TRUSTED_PROXIES`.
const UNIX_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

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
    /// Source of `POST /webhook`.
    pub source: Source,
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
    /// What is in memory at once.
    pub budgets: Budgets,
    /// Questions under way.
    pub questions: Questions,
}

/// Bytes that may still be in memory at once, of what others decide the size of.
pub struct Budgets {
    /// Of the bodies of requests under way.
    pub bodies: Bodies,
    /// Of listings that are being sent.
    pub listings: Arc<Semaphore>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { bodies: Bodies::default(), listings: Arc::new(Semaphore::new(LISTINGS_BYTES_MAX)) }
    }
}

impl App {
    /// # Errors
    /// Names what is missing to receive and to answer.
    pub async fn ready(&self) -> Result<(), String> {
        let mut missing = Vec::new();
        if let Err(error) = self.query.ready().await {
            missing.push(format!("database: {error}"));
        }
        if self.source.verifier.is_none() {
            missing.push("WEBHOOK_SECRET is not set".to_owned());
        }
        if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
    }
}

/// Binds an address, before anything is made on disk.
///
/// # Errors
/// The address is taken, or not this machine's.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        if addr.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    cut_unread(&socket)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Has connections cut whose clients leave unread what was sent to them. They inherit it from the socket that accepts
/// them.
pub(crate) fn cut_unread(listener: impl AsFd) -> io::Result<()> {
    let unread_ms = u32::try_from(UNREAD_TIME_MAX.as_millis()).expect("half a minute is a number of ms");
    Ok(set_tcp_user_timeout(listener, unread_ms)?)
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

/// How many connections a listener takes.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Of all clients, those included that are about to be closed.
    pub all_max: usize,
    /// Of one client that is not a trusted proxy.
    pub client_max: usize,
}

/// Serves `app` until the returned server is stopped; with `tls`, encrypted, unless it is on a unix socket. When there are as many connections as may
/// be, whichever has idled longest makes room.
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
                        let has_all = entrance.app.door.is_trusted(peer.ip());
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

/// Where connections come in.
#[derive(Clone)]
struct Entrance {
    app: Data<App>,
    permits: Arc<Permits>,
    heads: Heads,
}

impl Entrance {
    /// The permit of a connection, if it is given one.
    fn enter(&self, peer: SocketAddr) -> Option<Permit> {
        self.permits.take(peer.ip(), self.app.door.is_trusted(peer.ip()))
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

/// What serves one connection. It is what `actix_web::HttpServer` puts together, around connections of ours.
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
    let routes: routes::Routes = match traffic {
        Traffic::All => routes::all,
        Traffic::Webhooks => routes::receiving,
        Traffic::Questions => routes::asking,
    };
    let headers = SECURITY_HEADERS.into_iter().fold(DefaultHeaders::new(), DefaultHeaders::add);
    let requests = ActixApp::new()
        .app_data(app)
        .wrap(from_fn(request::observe))
        .wrap(headers)
        .wrap(from_fn(answer_one_request))
        .configure(routes)
        .configure(routes::everywhere)
        .into_factory();
    HttpService::build()
        // Heads are ours: see `connection`.
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
