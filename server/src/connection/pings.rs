//! Clients that ping too often are sent away, as by grpc-go with etcd's rules.
//!
//! A ping earlier than `--grpc-keepalive-min-time` after the one before is a strike, and so is one
//! within two hours on a connection without an open stream. Whatever a client is told (headers or
//! data) forgives its strikes, with the next ping. The third strike ends the connection: GOAWAY
//! with ENHANCE_YOUR_CALM and `too_many_pings`, at which grpc's clients ping half as often.
//!
//! The HTTP/2 library answers pings by itself and tells nobody. So the headers of the frames are
//! looked at here while they pass, which takes some nanoseconds each.

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::{self, Claim};

use super::frames::{
    ACK, DATA, END_STREAM, FrameHeader, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, Walk,
};

const STRIKES_MAX: u8 = 2;
/// Between two pings without an open stream.
const IDLE_INTERVAL_MIN: Duration = Duration::from_secs(2 * 3600);

const ENHANCE_YOUR_CALM: u32 = 0xb;
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";
const TOO_MANY_STREAMS: &[u8] = b"too_many_streams";

/// A connection whose client is sent away when it pings too often. Writes must be taken whole or
/// not at all between two frames, as [`super::gather`] does.
pub struct PoliteClient<S> {
    stream: S,
    /// None: not HTTP/2, or no matter.
    observed: Option<Box<Observed>>,
}

impl<S> PoliteClient<S> {
    /// A client that may ping every `interval_min` while it has a stream open; without one it may
    /// ping as it likes.
    pub fn new(stream: S, interval_min: Option<Duration>) -> PoliteClient<S> {
        PoliteClient { stream, observed: interval_min.map(|min| Box::new(Observed::new(min))) }
    }
}

/// What there was to see on a connection.
struct Observed {
    /// Bytes of the preface that were read.
    preface: usize,
    reads: Walk,
    writes: Walk,
    /// The last stream that the client opened.
    newest: u32,
    open: HashSet<u32>,
    /// As many as are open.
    streams: Claim,
    pings: Pings,
    verdict: Verdict,
    /// What the client is told when it has to go.
    why: &'static [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Welcome,
    /// Pinged too often; what came with the last ping is still to be answered.
    AfterThisTurn,
    Leaving,
}

impl Observed {
    fn new(interval_min: Duration) -> Observed {
        Observed {
            preface: 0,
            reads: Walk::default(),
            writes: Walk::default(),
            newest: 0,
            open: HashSet::new(),
            streams: budget::STREAMS.claim(),
            pings: Pings::new(interval_min),
            verdict: Verdict::Welcome,
            why: TOO_MANY_PINGS,
        }
    }

    /// False: this is not HTTP/2.
    fn read(&mut self, mut bytes: &[u8]) -> bool {
        let expected = &PREFACE[self.preface..];
        let count = expected.len().min(bytes.len());
        if bytes[..count] != expected[..count] {
            return false;
        }
        self.preface += count;
        bytes = &bytes[count..];
        while let Some(FrameHeader { kind, flags, stream, .. }) = self.reads.next_header(&mut bytes)
        {
            match kind {
                HEADERS if stream > self.newest => {
                    self.newest = stream;
                    self.open.insert(stream);
                }
                RST_STREAM => {
                    self.open.remove(&stream);
                }
                PING if flags & ACK == 0 => {
                    let may_stay = self.pings.take(Instant::now(), !self.open.is_empty());
                    if !may_stay {
                        self.verdict = Verdict::AfterThisTurn;
                    }
                }
                _ => {}
            }
        }
        self.count();
        true
    }

    /// All that are open on all connections are counted. A call beyond their bound is refused; whoever
    /// goes on nevertheless has to go.
    fn count(&mut self) {
        let more = self.open.len() > self.streams.size();
        self.streams.take(self.open.len());
        if more && budget::STREAMS.is_far_exceeded() && self.verdict == Verdict::Welcome {
            self.verdict = Verdict::AfterThisTurn;
            self.why = TOO_MANY_STREAMS;
        }
    }

    fn written(&mut self, mut bytes: &[u8]) {
        while let Some(FrameHeader { kind, flags, stream, .. }) =
            self.writes.next_header(&mut bytes)
        {
            let answers = matches!(kind, DATA | HEADERS);
            self.pings.forgiven |= answers;
            if kind == RST_STREAM || answers && flags & END_STREAM != 0 {
                self.open.remove(&stream);
            }
        }
        self.streams.take(self.open.len());
    }

    /// The frame that sends the client away.
    fn goaway(&self) -> Vec<u8> {
        let length = u32::try_from(8 + self.why.len()).expect("a short text");
        [
            &length.to_be_bytes()[1..],
            &[GOAWAY, 0, 0, 0, 0, 0],
            &self.newest.to_be_bytes(),
            &ENHANCE_YOUR_CALM.to_be_bytes(),
            self.why,
        ]
        .concat()
    }
}

/// A client's pings.
struct Pings {
    interval_min: Duration,
    last: Option<Instant>,
    strikes: u8,
    /// The client was told something since the last ping.
    forgiven: bool,
}

impl Pings {
    fn new(interval_min: Duration) -> Pings {
        Pings { interval_min, last: None, strikes: 0, forgiven: false }
    }

    /// Whether the client may stay after this ping.
    fn take(&mut self, now: Instant, has_streams: bool) -> bool {
        let last = self.last.replace(now);
        if std::mem::take(&mut self.forgiven) {
            self.strikes = 0;
            return true;
        }
        let interval_min = if has_streams { self.interval_min } else { IDLE_INTERVAL_MIN };
        if last.is_some_and(|last| now.duration_since(last) < interval_min) {
            self.strikes = self.strikes.saturating_add(1);
        }
        self.strikes <= STRIKES_MAX
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PoliteClient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(observed) = &mut this.observed else {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        };
        match observed.verdict {
            Verdict::Welcome => {}
            Verdict::AfterThisTurn => {
                observed.verdict = Verdict::Leaving;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Verdict::Leaving => {
                // In the middle of a frame nothing can be said.
                if observed.writes.is_between_frames() {
                    let goaway = observed.goaway();
                    ready!(Pin::new(&mut this.stream).poll_write(cx, &goaway))?;
                }
                return Poll::Ready(Err(io::Error::other("the client asks too much")));
            }
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        if !observed.read(&buffer.filled()[before..]) {
            this.observed = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PoliteClient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let taken = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        if let Some(observed) = &mut this.observed {
            observed.written(&bytes[..taken]);
        }
        Poll::Ready(Ok(taken))
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
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// What is left of the welcome after so many pings, each so long after the one before.
    fn stays(pings: &mut Pings, count: u32, interval: Duration, has_streams: bool) -> Vec<bool> {
        let mut now = pings.last.unwrap_or_else(Instant::now);
        let mut next = || {
            now += interval;
            pings.take(now, has_streams)
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn the_third_strike_is_one_too_many() {
        let mut pings = Pings::new(5 * SECOND);
        assert_eq!(stays(&mut pings, 4, SECOND, true), [true, true, true, false]);
    }

    #[test]
    fn pings_in_time_are_no_strikes() {
        let mut pings = Pings::new(5 * SECOND);
        assert_eq!(stays(&mut pings, 6, 5 * SECOND, true), [true; 6]);
        assert_eq!(stays(&mut pings, 2, SECOND, true), [true; 2]);
        // What was a strike stays one.
        assert_eq!(stays(&mut pings, 3, 5 * SECOND, true), [true; 3]);
        assert_eq!(stays(&mut pings, 1, SECOND, true), [false]);
    }

    #[test]
    fn without_a_stream_hours_must_lie_between_pings() {
        let mut pings = Pings::new(5 * SECOND);
        assert_eq!(stays(&mut pings, 3, 7200 * SECOND, false), [true; 3]);
        assert_eq!(stays(&mut pings, 3, 7199 * SECOND, false), [true, true, false]);
    }

    #[test]
    fn an_answer_forgives() {
        let mut pings = Pings::new(5 * SECOND);
        for _ in 0..3 {
            assert_eq!(stays(&mut pings, 3, SECOND, true), [true; 3]);
            pings.forgiven = true;
        }
        assert_eq!(stays(&mut pings, 4, SECOND, true), [true, true, true, false]);
    }

    #[test]
    fn streams_are_open_until_either_side_ends_them() {
        let mut observed = Observed::new(SECOND);
        assert!(observed.read(PREFACE));
        let frames = [
            frame(HEADERS, 4, 1, b"one"),
            frame(DATA, END_STREAM, 1, b"all"),
            frame(HEADERS, 4, 3, b"two"),
            frame(HEADERS, 4, 5, b"three"),
            // Trailers of a stream that is open.
            frame(HEADERS, END_STREAM, 3, b""),
        ];
        for byte in frames.concat() {
            assert!(observed.read(&[byte]));
        }
        assert_eq!((observed.open.len(), observed.newest), (3, 5));
        observed.written(&frame(RST_STREAM, 0, 3, b"code"));
        assert!(!observed.pings.forgiven);
        observed.written(&frame(HEADERS, 0, 1, b"ok"));
        assert!(observed.pings.forgiven);
        assert_eq!(observed.open.len(), 2);
        for byte in frame(HEADERS, END_STREAM, 1, b"ok") {
            observed.written(&[byte]);
        }
        assert!(observed.writes.is_between_frames());
        observed.read(&frame(RST_STREAM, 0, 5, b"code"));
        assert!(observed.open.is_empty());
    }

    #[test]
    fn acknowledgements_are_no_pings() {
        let mut observed = Observed::new(SECOND);
        observed.read(PREFACE);
        let acknowledged = frame(PING, ACK, 0, b"8 bytes.");
        observed.read(&acknowledged.repeat(9));
        assert!(observed.verdict == Verdict::Welcome);
        observed.read(&frame(PING, 0, 0, b"8 bytes.").repeat(4));
        assert!(observed.verdict == Verdict::AfterThisTurn);
    }

    #[test]
    fn what_is_not_http2_is_not_looked_at() {
        assert!(!Observed::new(SECOND).read(b"GET / HTTP/1.1"));
        let mut observed = Observed::new(SECOND);
        assert!(observed.read(b"PRI * HTTP"));
        assert!(!observed.read(b"/1.1"));
    }
}
