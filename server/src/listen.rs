//! Where clients and members connect: TCP addresses and, for clients, Unix sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::config::Url;

/// Connections that wait to be accepted, at most; the system may allow fewer.
const LISTEN_BACKLOG: u32 = 4096;

/// A socket that is bound, before there is a runtime to accept on it.
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix { listener: std::os::unix::net::UnixListener, path: Remove },
}

/// Binds all of these, which were checked to be something to listen on. `share`: TCP ports may be bound
/// by others, too.
pub fn bind(urls: &[Url], option: &str, share: bool) -> anyhow::Result<Vec<Bound>> {
    let bind = |url: &Url| match (url.listen_address(), url.socket_path()) {
        (Some(address), _) => bind_tcp(address, option, share),
        (None, path) => bind_unix(path.unwrap_or(Path::new("")), option),
    };
    urls.iter().map(bind).collect()
}

fn bind_tcp(address: SocketAddr, option: &str, share: bool) -> anyhow::Result<Bound> {
    let bind = if share { bind_shared } else { std::net::TcpListener::bind::<SocketAddr> };
    let listener = bind(address).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process listens there; stop it or choose another address"
            }
            io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
            _ => "choose another address",
        };
        anyhow!("cannot listen on {address}: {error}; {remedy} with {option}")
    })?;
    listener.set_nonblocking(true)?;
    Ok(Bound::Tcp(listener))
}

/// As others of the same user may at the same time. A runtime is needed to listen, not afterwards.
fn bind_shared(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _within = runtime.enter();
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)?.into_std()
}

fn bind_unix(path: &Path, option: &str) -> anyhow::Result<Bound> {
    let bind = || std::os::unix::net::UnixListener::bind(path);
    let listener = match bind() {
        // A process that was killed leaves its socket behind, and nobody answers there.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_deserted(path) => {
            std::fs::remove_file(path).and_then(|()| bind())
        }
        bound => bound,
    };
    let listener = listener.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => "it is there already; choose another path",
            _ => "choose another path",
        };
        anyhow!("cannot listen on {}: {error}; {remedy} with {option}", path.display())
    })?;
    listener.set_nonblocking(true)?;
    Ok(Bound::Unix { listener, path: Remove(path.to_owned()) })
}

/// Whether this is a socket that nobody listens on. Any other kind of file is not ours.
fn is_deserted(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

/// Removes the path of a socket when nobody listens there any more.
pub struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        // One that stays is replaced by the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A socket that accepts.
pub enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _path: Remove },
}

impl Bound {
    /// The same socket once more, within a runtime. None for a Unix socket.
    pub fn share(&self) -> io::Result<Option<TcpListener>> {
        match self {
            Bound::Tcp(listener) => TcpListener::from_std(listener.try_clone()?).map(Some),
            Bound::Unix { .. } => Ok(None),
        }
    }

    /// Within a runtime.
    pub fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Bound::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix { listener, path } => {
                Listener::Unix { listener: UnixListener::from_std(listener)?, _path: path }
            }
        })
    }
}

impl Listener {
    /// The next connection. One over a Unix socket is given the same type: reading, writing and
    /// closing are the same calls, and that is all that a connection is used for.
    pub async fn accept(&self) -> io::Result<std::net::TcpStream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Only a connection that is gone again could refuse.
                let _ = stream.set_nodelay(true);
                stream.into_std()
            }
            Listener::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok(OwnedFd::from(stream.into_std()?).into())
            }
        }
    }
}
