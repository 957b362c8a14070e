//! Connections whose client says in time what it speaks.
//!
//! The HTTP library waits for as long as it takes until it knows whether a connection is HTTP/1 or
//! HTTP/2. Whoever has not said so in [`limits::GREETING_TIMEOUT`] is cut off. From then on HTTP/1 has
//! a time for each request's headers, and an HTTP/2 connection may be idle.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::connection::PREFACE;
use crate::limits;

/// A stream whose first bytes come in time.
pub struct Greeted<S> {
    stream: S,
    /// None: it is known what it is.
    waiting: Option<Box<Waiting>>,
}

struct Waiting {
    deadline: Pin<Box<Sleep>>,
    /// Bytes of the preface that were read.
    seen: usize,
}

impl<S> Greeted<S> {
    pub fn new(stream: S) -> Greeted<S> {
        let deadline = Box::pin(sleep(limits::GREETING_TIMEOUT));
        Greeted { stream, waiting: Some(Box::new(Waiting { deadline, seen: 0 })) }
    }
}

impl Waiting {
    /// Whether it is known now.
    fn read(&mut self, bytes: &[u8]) -> bool {
        let expected = &PREFACE[self.seen..];
        let count = expected.len().min(bytes.len());
        self.seen += count;
        bytes[..count] != expected[..count] || self.seen == PREFACE.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if let Some(waiting) = &mut this.waiting {
            match &polled {
                Poll::Ready(_) => {
                    if waiting.read(&buffer.filled()[before..]) {
                        this.waiting = None;
                    }
                }
                Poll::Pending if waiting.deadline.as_mut().poll(cx).is_ready() => {
                    let late = "it did not say in time what it speaks";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, late)));
                }
                Poll::Pending => {}
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Whether a client that sends this and no more is cut off.
    async fn is_cut_off(sent: &[u8]) -> bool {
        let (mut client, server) = duplex(1 << 10);
        client.write_all(sent).await.expect("there is room");
        let mut server = Greeted::new(server);
        let mut bytes = vec![0; sent.len()];
        server.read_exact(&mut bytes).await.expect("they were sent");
        let more = tokio::time::timeout(2 * limits::GREETING_TIMEOUT, server.read_u8());
        matches!(more.await, Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_say_what_it_speaks_is_cut_off() {
        assert!(is_cut_off(b"").await);
        assert!(is_cut_off(&PREFACE[..PREFACE.len() - 1]).await);
        assert!(!is_cut_off(PREFACE).await);
        assert!(!is_cut_off(b"G").await);
        assert!(!is_cut_off(b"PRI * HTTP/1").await);
    }
}
