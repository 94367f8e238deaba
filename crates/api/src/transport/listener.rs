//! Listening sockets: of an address, on a file, or passed by systemd.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;

use crate::transport::tcp;

/// In front of the path of a unix socket.
const UNIX: &str = "unix:";

/// Longest path of a unix socket: what a `sockaddr_un` has room for (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// Mode of a unix socket: its owner and its group, in which a proxy may be, can connect.
const SOCKET_MODE: u32 = 0o660;

/// Sockets that systemd may open: one for webhooks, one for queries.
const PASSED_MAX: usize = 2;

/// Address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A file.
    Unix(PathBuf),
}

impl Address {
    /// Parses `IP:PORT` or `unix:PATH`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(UNIX) {
            Some(path) => {
                let is_path = (1..=PATH_BYTES_MAX).contains(&path.len()) && !path.contains('\0');
                is_path.then(|| Self::Unix(path.into()))
            }
            None => text.parse().ok().map(Self::Tcp),
        }
    }

    /// Returns true if only this machine can connect to it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(addr) => addr.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// On an IP address.
    Tcp(TcpListener),
    /// On a file.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Listener {
    /// # Errors
    /// The system does not say.
    pub(crate) fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(listener) => {
                let addr = listener.local_addr()?;
                Ok(Address::Unix(addr.as_pathname().unwrap_or(Path::new("")).into()))
            }
        }
    }
}

/// A socket that listens, and its address.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub listener: Listener,
    /// Its address.
    pub address: Address,
    /// Its file, if we made one: it is removed when this is dropped.
    pub file: Option<SocketFile>,
}

impl Listening {
    /// Listens, before anything else is made on disk.
    ///
    /// # Errors
    /// The address is taken, or not this machine's; the file can't be made.
    pub fn on(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(addr) => Self::new(Listener::Tcp(tcp::bind(*addr)?), None),
            Address::Unix(path) => {
                let (listener, file) = bind_unix(path)?;
                Self::new(Listener::Unix(listener), Some(file))
            }
        }
    }

    /// Returns the sockets that systemd opened (`LISTEN_FDS`, sd_listen_fds(3)). The first is for webhooks, and also
    /// for queries unless there is a second one.
    ///
    /// # Errors
    /// There are more, or one is of another kind.
    pub fn passed() -> io::Result<Vec<Self>> {
        let mut passed = ListenFd::from_env();
        if passed.len() > PASSED_MAX {
            let why = format!("there are {}, and at most {PASSED_MAX} are of use", passed.len());
            return Err(io::Error::other(why));
        }
        let mut listeners = Vec::new();
        for n in 0..passed.len() {
            let listener = match passed.take_tcp_listener(n) {
                Ok(tcp) => tcp.map(Listener::Tcp),
                Err(_) => passed.take_unix_listener(n)?.map(Listener::Unix),
            };
            if let Some(Listener::Tcp(socket)) = &listener {
                tcp::cut_unread(socket)?;
            }
            listeners.extend(listener.map(|listener| Self::new(listener, None)).transpose()?);
        }
        Ok(listeners)
    }

    fn new(listener: Listener, file: Option<SocketFile>) -> io::Result<Self> {
        Ok(Self { address: listener.address()?, listener, file })
    }
}

/// The file of a unix socket. It is removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // Left there, it is found abandoned by whoever binds it next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == ErrorKind::AddrInUse && is_abandoned(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// Returns true if a file is the socket of a process that was killed.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_ip_and_port_or_a_path() {
        for text in ["127.0.0.1:8000", "[::]:0", "unix:/run/hookkeeper.sock", "unix:a"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        let long = format!("unix:{}", "x".repeat(108));
        for text in ["", "localhost:8000", "127.0.0.1", "unix:", "unix:a\0b", &long, "/run/hookkeeper.sock"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
