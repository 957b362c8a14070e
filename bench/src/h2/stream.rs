//! Streams that are open on one connection, and gRPC's framing of messages inside them.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Result, ensure};

/// gRPC puts a compression flag and a length before each message.
pub(super) const MESSAGE_PREFIX_BYTES: usize = 5;

/// A call that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) client: u32,
    /// When the call was due, which latencies count from.
    pub(crate) started: Instant,
    /// Bytes of response messages, framing included; none means that the call failed.
    pub(crate) bytes: u64,
    /// The least that a right answer has.
    pub(crate) bytes_min: u64,
}

pub(super) struct Stream {
    pub(super) end: End,
    /// Messages are handed on rather than only counted.
    pub(super) collects: bool,
    /// Received since the peer was last granted more window.
    pub(super) ungranted: u32,
    partial: Vec<u8>,
}

impl Stream {
    pub(super) fn new(end: End, collects: bool) -> Self {
        Self { end, collects, ungranted: 0, partial: Vec::new() }
    }

    /// Takes a piece of the body; calls `on` with each message that is complete.
    pub(super) fn data(&mut self, payload: &[u8], mut on: impl FnMut(&[u8])) -> Result<()> {
        self.end.bytes += payload.len() as u64;
        if !self.collects {
            return Ok(());
        }
        self.partial.extend_from_slice(payload);
        let mut at = 0;
        while let Some(prefix) = self.partial[at..].first_chunk::<MESSAGE_PREFIX_BYTES>() {
            ensure!(prefix[0] == 0, "the server compressed a message nobody asked it to");
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            let body = at + MESSAGE_PREFIX_BYTES;
            let Some(message) = self.partial.get(body..body + length) else { break };
            on(message);
            at = body + length;
        }
        self.partial.drain(..at);
        Ok(())
    }
}

/// Open streams by id. Ids only grow, so a ring is an index without hashing.
pub(super) struct Streams {
    /// Id of the ring's front. Clients use odd ids.
    first: u32,
    ring: VecDeque<Option<Stream>>,
    open: usize,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self { first: 1, ring: VecDeque::new(), open: 0 }
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn insert(&mut self, stream: Stream) -> u32 {
        let behind = u32::try_from(self.ring.len()).expect("the ring is as long as clients wait");
        self.ring.push_back(Some(stream));
        self.open += 1;
        self.first + 2 * behind
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let place = id.checked_sub(self.first)? / 2;
        self.ring.get_mut(place as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        let place = id.checked_sub(self.first)? / 2;
        let stream = self.ring.get_mut(place as usize)?.take()?;
        self.open -= 1;
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.first += 2;
        }
        Some(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(client: u32) -> Stream {
        let end = End { client, started: Instant::now(), bytes: 0, bytes_min: 0 };
        Stream::new(end, true)
    }

    #[test]
    fn streams_are_found_in_any_order() {
        let mut streams = Streams::new();
        assert_eq!([1, 2, 3].map(|client| streams.insert(stream(client))), [1, 3, 5]);
        assert_eq!(streams.remove(3).map(|s| s.end.client), Some(2));
        assert!(streams.get(3).is_none());
        assert_eq!(streams.remove(1).map(|s| s.end.client), Some(1));
        assert_eq!(streams.insert(stream(4)), 7);
        assert_eq!(streams.get(5).map(|s| s.end.client), Some(3));
        assert_eq!(streams.get(7).map(|s| s.end.client), Some(4));
        assert!(streams.remove(1).is_none());
        assert_eq!(streams.open(), 2);
    }

    #[test]
    fn messages_are_reassembled_from_any_cut() {
        let body = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01z";
        for cut in 0..=body.len() {
            let mut seen = Vec::new();
            let mut stream = stream(0);
            for piece in [&body[..cut], &body[cut..]] {
                stream.data(piece, |message| seen.push(message.to_vec())).unwrap();
            }
            assert_eq!(seen, [b"abc".to_vec(), Vec::new(), b"z".to_vec()], "cut at {cut}");
            assert_eq!(stream.end.bytes, body.len() as u64);
        }
    }
}
