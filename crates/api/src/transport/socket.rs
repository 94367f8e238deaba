//! Sockets that a connection can be made on, and how each shows that its client has hung up.

use std::io;

use actix_web::rt::net::{TcpStream, UnixStream};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, Ready};
use tokio_rustls::server::TlsStream;

/// Socket of a connection.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Returns true if the client has closed its direction, even if some of what it sent is not read yet.
    fn has_hung_up(&self) -> bool;
}

impl Socket for TcpStream {
    fn has_hung_up(&self) -> bool {
        is_read_closed(self.ready(Interest::READABLE))
    }
}

impl Socket for UnixStream {
    fn has_hung_up(&self) -> bool {
        is_read_closed(self.ready(Interest::READABLE))
    }
}

impl Socket for TlsStream<TcpStream> {
    fn has_hung_up(&self) -> bool {
        self.get_ref().0.has_hung_up()
    }
}

fn is_read_closed(ready: impl Future<Output = io::Result<Ready>>) -> bool {
    ready.now_or_never().and_then(Result::ok).is_some_and(Ready::is_read_closed)
}
