//! Connections whose bytes are counted.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::metrics::Traffic;

/// A stream that counts, as soon as it is known for whom.
pub struct Metered<S> {
    stream: S,
    meter: Meter,
}

/// Where a connection's bytes are counted. Cloning shares it.
#[derive(Clone, Default)]
pub struct Meter(Arc<OnceLock<&'static Traffic>>);

impl Meter {
    pub fn of(traffic: &'static Traffic) -> Meter {
        Meter(Arc::new(OnceLock::from(traffic)))
    }

    /// For the first that is named; the others behind the same connection are the same.
    pub fn belongs_to(&self, traffic: impl FnOnce() -> &'static Traffic) {
        self.0.get_or_init(traffic);
    }

    pub fn is_known(&self) -> bool {
        self.0.get().is_some()
    }
}

impl<S> Metered<S> {
    pub fn new(stream: S, meter: Meter) -> Metered<S> {
        Metered { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if let Some(traffic) = this.meter.0.get() {
            traffic.received.add((buffer.filled().len() - before) as u64);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if let (Poll::Ready(Ok(written)), Some(traffic)) = (&polled, this.meter.0.get()) {
            traffic.sent.add(*written as u64);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
