//! The bytes below HTTP/2, over TCP or a socket, encrypted or not.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::tls_words;

/// Where the other side is.
#[derive(Clone)]
pub(super) enum To {
    /// `host:port`.
    Address(String),
    Socket(PathBuf),
}

/// How to get there.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) to: To,
    /// With the name that the server's certificate must be for.
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

impl Link {
    pub(super) async fn open(self) -> io::Result<TokioIo<Told>> {
        let plain: Box<dyn Bytes> = match self.to {
            To::Address(address) => {
                let stream = TcpStream::connect(address.as_str()).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            To::Socket(path) => Box::new(UnixStream::connect(path).await?),
        };
        let stream: Box<dyn Bytes> = match self.tls {
            None => plain,
            Some((connector, name)) => Box::new(connector.connect(name, plain).await?),
        };
        Ok(TokioIo::new(Told(stream)))
    }
}

/// A connection that takes note of what TLS says when it breaks. A server refuses a client's
/// certificate only after the client holds the handshake for done, and all that HTTP/2 then says of
/// it may be that the connection was closed.
pub(super) struct Told(Box<dyn Bytes>);

static LAST_TROUBLE: Mutex<Option<String>> = Mutex::new(None);

/// What TLS said last.
pub(crate) fn last_trouble() -> Option<String> {
    LAST_TROUBLE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl AsyncRead for Told {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.get_mut().0).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &polled
            && let Some(reason) = tls_words::reason(error)
        {
            *LAST_TROUBLE.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
        polled
    }
}

impl AsyncWrite for Told {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
