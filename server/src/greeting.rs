//! Connections whose client says in time what it speaks.
//!
//! The HTTP library waits for as long as it takes until it knows whether a connection is HTTP/1 or
//! HTTP/2. Whoever has not said so in [`limits::GREETING_TIMEOUT`] is cut off. From then on HTTP/1 has
//! a time for each request's headers, and an HTTP/2 connection may be idle.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

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
        Greeted::within(stream, limits::GREETING_TIMEOUT)
    }

    fn within(stream: S, timeout: Duration) -> Greeted<S> {
        let deadline = Box::pin(sleep(timeout));
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

    /// A server that has read this of a client that sends no more, in no time at all.
    async fn having_read(sent: &[u8]) -> (Greeted<tokio::io::DuplexStream>, impl Sized) {
        let (mut client, server) = duplex(1 << 10);
        client.write_all(sent).await.expect("there is room");
        let mut server = Greeted::within(server, Duration::ZERO);
        let mut bytes = vec![0; sent.len()];
        server.read_exact(&mut bytes).await.expect("they were sent");
        (server, client)
    }

    #[tokio::test]
    async fn whoever_does_not_say_what_it_speaks_is_cut_off() {
        for sent in [b"", &PREFACE[..1], &PREFACE[..PREFACE.len() - 1]] {
            let (mut server, _client) = having_read(sent).await;
            let late = server.read_u8().await.expect_err("nothing more was sent");
            assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        }
        for sent in [PREFACE, b"G", b"PRI * HTTP/1"] {
            let (server, _client) = having_read(sent).await;
            assert!(server.waiting.is_none(), "{}", sent.escape_ascii());
        }
    }
}
