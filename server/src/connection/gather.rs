//! Gathers what a connection writes in one turn of its task into one system call.
//!
//! HTTP/2 as it comes writes each answer by itself. With many clients on a connection the calls
//! into the kernel were half of all the work of a read; a turn answers several of them.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::{self, Claim};

/// Bytes gathered before they are written in the middle of a turn.
const TURN_BYTES_MAX: usize = 64 << 10;
/// The same while the HTTP library has much that nobody reads: this is what a connection may keep.
const CROWDED_BYTES_MAX: usize = 8 << 10;
/// A buffer that grew beyond this is given back when it is empty.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// A stream for a connection, and the handle with which its task writes what the turn gathered.
pub fn gather<S>(stream: S) -> (Gathering<S>, Gathered<S>) {
    let claim = budget::SENDING.claim();
    let shared = Arc::new(Mutex::new(Shared { stream, waiting: BytesMut::new(), claim }));
    (Gathering(shared.clone()), Gathered(shared))
}

/// The connection's side: writes go to a buffer.
pub struct Gathering<S>(Arc<Mutex<Shared<S>>>);

/// The task's side.
pub struct Gathered<S>(Arc<Mutex<Shared<S>>>);

struct Shared<S> {
    stream: S,
    waiting: BytesMut,
    /// For what the socket does not take.
    claim: Claim,
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Drives a connection and writes, after each of its turns, what it left to write.
    pub async fn written<C, E>(&self, mut connection: Pin<&mut C>) -> Result<(), E>
    where
        C: Future<Output = Result<(), E>>,
        E: From<io::Error>,
    {
        poll_fn(|cx| {
            let ended = connection.as_mut().poll(cx);
            let written = lock(&self.0).poll_write_out(cx);
            match (ended, written) {
                (Poll::Ready(result), _) => Poll::Ready(result),
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
                (Poll::Pending, _) => Poll::Pending,
            }
        })
        .await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gathered<S> {
    /// Writes what is left and waits until the client ends the connection too. To close it while
    /// bytes of the client are unread would reset it, and the client might never see what it was
    /// told last.
    pub async fn farewell(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut shared = lock(&self.0);
            ready!(shared.poll_write_out(cx))?;
            Pin::new(&mut shared.stream).poll_shutdown(cx)
        })
        .await?;
        poll_fn(|cx| {
            let mut shared = lock(&self.0);
            loop {
                let mut passed = [0; 4096];
                let mut buffer = ReadBuf::new(&mut passed);
                ready!(Pin::new(&mut shared.stream).poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Ready when nothing waits any more.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting.has_remaining() {
            let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, &self.waiting)
            else {
                self.claim.take(self.waiting.capacity());
                return Poll::Pending;
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        if self.claim.size() > 0 {
            self.claim.take(0);
        }
        if self.waiting.capacity() > KEPT_BYTES_MAX {
            self.waiting = BytesMut::new();
        }
        // TLS may hold what the socket did not take.
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.0);
        let few = shared.waiting.len() + bytes.len() <= CROWDED_BYTES_MAX;
        let is_crowded = !few && budget::SENDING.is_exceeded();
        let bytes_max = if is_crowded { CROWDED_BYTES_MAX } else { TURN_BYTES_MAX };
        if shared.waiting.len() >= bytes_max {
            ready!(shared.poll_write_out(cx))?;
        }
        let taken = bytes.len().min(bytes_max);
        shared.waiting.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    /// Done by the task at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        ready!(shared.poll_write_out(cx))?;
        Pin::new(&mut shared.stream).poll_shutdown(cx)
    }
}

/// A poisoned lock means a panic, and a panic aborts the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_turn_arrives_as_one_write_and_nothing_is_lost() {
        let (far, near) = duplex(4 << 20);
        let (mut stream, gathered) = gather(near);
        let mut far = far;
        let connection = std::pin::pin!(async move {
            stream.write_all(b"one ").await?;
            stream.flush().await?;
            assert_eq!(lock(&stream.0).waiting.as_ref(), b"one ");
            stream.write_all(b"two").await?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await?;
            assert_eq!(&answer, b"ok");
            stream.write_all(&vec![7; 1 << 20]).await?;
            stream.shutdown().await
        });
        let reader = async {
            let mut first = [0; 7];
            far.read_exact(&mut first).await?;
            assert_eq!(&first, b"one two");
            far.write_all(b"ok").await?;
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).await?;
            io::Result::Ok(rest)
        };
        let (ended, rest) = tokio::join!(gathered.written::<_, io::Error>(connection), reader);
        ended.expect("the connection ends well");
        assert!(rest.is_ok_and(|rest| rest == vec![7; 1 << 20]));
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_the_writer_up() {
        let (far, near) = duplex(1 << 10);
        let (mut stream, gathered) = gather(near);
        let connection = std::pin::pin!(async move { stream.write_all(&[1; 1 << 20]).await });
        let mut written = std::pin::pin!(gathered.written::<_, io::Error>(connection));
        let pending = poll_fn(|cx| Poll::Ready(written.as_mut().poll(cx).is_pending())).await;
        assert!(pending);
        assert!(lock(&gathered.0).waiting.len() <= 2 * TURN_BYTES_MAX);
        let counted = lock(&gathered.0).claim.size();
        assert!(counted >= lock(&gathered.0).waiting.len() && counted > 0);
        drop(far);
        assert!(written.await.is_err());
    }

    #[tokio::test]
    async fn in_a_crowd_whoever_does_not_read_keeps_little() {
        let mut crowd = budget::SENDING.claim();
        crowd.take(crate::limits::SENDING_BYTES_MAX + 1);
        let (far, near) = duplex(1 << 10);
        let (mut stream, gathered) = gather(near);
        let connection = std::pin::pin!(async move { stream.write_all(&[1; 1 << 20]).await });
        let mut written = std::pin::pin!(gathered.written::<_, io::Error>(connection));
        let pending = poll_fn(|cx| Poll::Ready(written.as_mut().poll(cx).is_pending())).await;
        assert!(pending);
        assert!(lock(&gathered.0).waiting.len() <= 2 * CROWDED_BYTES_MAX);
        drop(far);
        assert!(written.await.is_err());
    }
}
