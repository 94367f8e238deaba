//! Listening TCP sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::set_tcp_user_timeout;

/// Time for which a client may leave unread what was sent to it: until then it holds our memory.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Connections that may wait to be accepted: a burst of new senders.
const BACKLOG: u32 = 1024;

/// Listens on an address, before anything is created on disk.
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

/// Lets the kernel cut connections whose client does not read for [`UNREAD_TIME_MAX`]. They inherit it from the socket
/// that accepts them.
pub(crate) fn cut_unread(listener: impl AsFd) -> io::Result<()> {
    let unread_ms = u32::try_from(UNREAD_TIME_MAX.as_millis()).expect("half a minute is a number of ms");
    Ok(set_tcp_user_timeout(listener, unread_ms)?)
}
