//! Requests whose `:authority` is a URL: `http://host:port` where HTTP/2 wants `host:port`.
//!
//! etcdctl 3.4 (and what is built with its client) asks for `endpoint status` and `endpoint hashkv`
//! that way; through a Unix socket it names the socket's path, or its URL, for anything it asks.
//! grpc-go does not look at the authority; the HTTP/2 library here refuses the request before
//! anything of ours sees it. So the bytes of a connection pass through here first:
//!
//! 1. HTTP/1 is let through, as is HTTP/2 whose first HEADERS frame names no URL. From then on
//!    every read goes straight to the socket: an ordinary client pays for its first request only.
//! 2. Otherwise each HEADERS frame of the connection has such a value replaced by [`hpack::NAME`].
//!    No service here looks at it either.
//!
//! The replacement is never longer than what it replaces. So a frame is edited in place, and the
//! header table of the decoder holds at least what the client's holds: entries are counted from the
//! newest, and a smaller one only lets the oldest stay longer. (An entry too large for the table
//! would not enter it at all, but [`hpack`] leaves such alone.) What is malformed passes as it is,
//! the library judges.

mod hpack;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{
    FRAME_HEADER_BYTES, FrameHeader, HEADERS, PADDED, PAYLOAD_BYTES_MAX, PREFACE, PRIORITY,
};

/// A connection without URLs as authority.
pub struct PlainAuthority<S> {
    stream: S,
    /// None: nothing to look for (any more).
    filter: Option<Box<Filter>>,
}

impl<S> PlainAuthority<S> {
    pub fn new(stream: S) -> PlainAuthority<S> {
        PlainAuthority { stream, filter: Some(Box::default()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PlainAuthority<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(filter) = &mut this.filter else {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        };
        // Nothing to read while there is room would mean the end of the stream.
        while filter.ready.is_empty() && buffer.remaining() > 0 {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            let read = &buffer.filled()[before..];
            if read.is_empty() {
                filter.end();
                break;
            }
            filter.take(read);
            buffer.set_filled(before);
        }
        filter.give(buffer);
        if filter.ready.is_empty() && filter.at == At::Through {
            this.filter = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PlainAuthority<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Where in its connection the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// After so many bytes of the preface.
    Preface(usize),
    /// In a frame's header, which is held.
    Header,
    /// So many bytes before the end of a frame that passes.
    Payload(usize),
    /// In a HEADERS frame, which is held until it has so many bytes with its header.
    Headers(usize),
    /// Anywhere: all the rest passes.
    Through,
}

/// Takes a connection's bytes in pieces of any size and makes of them what is to be read.
#[derive(Debug)]
struct Filter {
    at: At,
    /// A frame's beginning, until it can be judged: at most a header and [`PAYLOAD_BYTES_MAX`].
    held: Vec<u8>,
    /// Judged and not read yet: at most what was held and the last piece.
    ready: Vec<u8>,
    /// How much of `ready` was read.
    given: usize,
    /// A URL was found: look at every HEADERS frame.
    found: bool,
}

impl Default for Filter {
    fn default() -> Self {
        let (held, ready) = (Vec::new(), Vec::new());
        Filter { at: At::Preface(0), held, ready, given: 0, found: false }
    }
}

impl Filter {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match self.at {
                At::Preface(seen) => self.preface(seen, bytes),
                At::Header => self.header(bytes),
                At::Payload(left) => self.payload(left, bytes),
                At::Headers(length) => self.headers(length, bytes),
                At::Through => {
                    self.ready.extend_from_slice(bytes);
                    bytes.len()
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// There are no more bytes; a frame that was cut off is read as far as it came.
    fn end(&mut self) {
        self.ready.append(&mut self.held);
        self.at = At::Through;
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.ready[self.given..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.given += count;
        if self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
        }
    }

    fn preface(&mut self, seen: usize, bytes: &[u8]) -> usize {
        let expected = &PREFACE[seen..];
        let count = expected.len().min(bytes.len());
        self.ready.extend_from_slice(&bytes[..count]);
        self.at = match seen + count {
            _ if bytes[..count] != expected[..count] => At::Through,
            all if all == PREFACE.len() => At::Header,
            some => At::Preface(some),
        };
        count
    }

    fn header(&mut self, bytes: &[u8]) -> usize {
        let count = self.hold(FRAME_HEADER_BYTES, bytes);
        if let Ok(header) = self.held[..].try_into() {
            let FrameHeader { length, kind, .. } = FrameHeader::decode(header);
            if kind == HEADERS && (1..=PAYLOAD_BYTES_MAX).contains(&length) {
                self.at = At::Headers(FRAME_HEADER_BYTES + length);
            } else {
                self.ready.append(&mut self.held);
                self.at = if length == 0 { At::Header } else { At::Payload(length) };
            }
        }
        count
    }

    fn payload(&mut self, left: usize, bytes: &[u8]) -> usize {
        let count = left.min(bytes.len());
        self.ready.extend_from_slice(&bytes[..count]);
        self.at = if count == left { At::Header } else { At::Payload(left - count) };
        count
    }

    fn headers(&mut self, length: usize, bytes: &[u8]) -> usize {
        let count = self.hold(length, bytes);
        if self.held.len() == length {
            let urls = replace(&mut self.held);
            self.found |= urls == Some(true);
            self.ready.append(&mut self.held);
            self.at = if self.found && urls.is_some() { At::Header } else { At::Through };
        }
        count
    }

    /// Adds to what is held, up to `length`.
    fn hold(&mut self, length: usize, bytes: &[u8]) -> usize {
        let count = (length - self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..count]);
        count
    }
}

/// Replaces what is a URL in a HEADERS frame; whether there was one, and None when the rest of the
/// connection is to be left alone. Continued frames are fine: the authority comes early, and what
/// follows in another frame is not touched.
fn replace(frame: &mut Vec<u8>) -> Option<bool> {
    let flags = frame[4];
    let mut start = FRAME_HEADER_BYTES;
    let mut end = frame.len();
    if flags & PADDED != 0 {
        end = end.saturating_sub(usize::from(frame[start]));
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let urls = hpack::urls(frame.get(start..end)?)?;
    // From the last to the first, so that the places stay right.
    for url in urls.iter().rev() {
        frame.splice(start + url.start..start + url.end, hpack::name());
    }
    let length = u32::try_from(frame.len() - FRAME_HEADER_BYTES).expect("it only got shorter");
    frame[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    Some(!urls.is_empty())
}
