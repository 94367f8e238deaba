//! TLS handshakes: their number and their time are bounded.
//!
//! A handshake takes up to a hundred KiB before it is clear who is there, so that there are fewer of them than
//! connections. Silent clients make room: for their own when these have their share, for others when all are under way.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use futures_util::future::{Either, select};
use rustls::ServerConfig;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::transport::permits::{Permit, PermitMetrics, Permits};

/// Handshakes under way: rustls keeps up to 64 KiB of one that does not end.
const HANDSHAKES_MAX: usize = 1024;

/// Those of one client: as many as a sender's pool may open at a time.
const CLIENT_HANDSHAKES_MAX: usize = 256;

/// Time for a handshake: two round trips and two lost packets.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// Acceptor of TLS connections.
#[derive(Clone)]
pub(crate) struct Handshakes {
    acceptor: TlsAcceptor,
    permits: Arc<Permits>,
}

impl Handshakes {
    pub(crate) fn new(mut config: ServerConfig, metrics: PermitMetrics) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let permits = Permits::new(HANDSHAKES_MAX, CLIENT_HANDSHAKES_MAX, metrics);
        Self { acceptor: Arc::new(config).into(), permits }
    }

    /// `None` if it fails, takes too long, or has to make room for another; or if `connection`, its permit among all
    /// connections, has to.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
        client: IpAddr,
        has_all: bool,
        connection: &Permit,
    ) -> Option<TlsStream<TcpStream>> {
        let permit = self.permits.take(client, has_all)?;
        let accepted = pin!(timeout(HANDSHAKE_TIME_MAX, self.acceptor.accept(tcp)));
        let told_to_go = pin!(poll_fn(|cx| {
            let either = [permit.poll_told_to_go(cx), connection.poll_told_to_go(cx)];
            if either.iter().any(Poll::is_ready) { Poll::Ready(()) } else { Poll::Pending }
        }));
        match select(accepted, told_to_go).await {
            Either::Left((accepted, _)) => accepted.ok()?.ok(),
            Either::Right(_) => None,
        }
    }
}
