//! One stream: its watchers, and the queue of responses its reader has not taken yet.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use proto::etcdserverpb::{ResponseHeader, WatchResponse};

use super::hub::Limits;
use super::watcher::Batch;
use crate::budget::Claim;

/// A response on its way out. Its header has only the revision.
#[derive(Debug)]
pub struct Outgoing {
    pub response: WatchResponse,
    /// The watcher accepts it in parts.
    pub fragment: bool,
    bytes: usize,
}

/// What a response without events counts for in a queue.
const RESPONSE_BYTES: usize = size_of::<Outgoing>();

/// Room an empty queue keeps. What a burst took beyond that is given back.
const QUEUE_KEPT: usize = 16;

impl Outgoing {
    pub(super) fn control(revision: i64, response: WatchResponse) -> Self {
        let header = Some(ResponseHeader { revision, ..Default::default() });
        let bytes = RESPONSE_BYTES + response.cancel_reason.len();
        Self { response: WatchResponse { header, ..response }, fragment: false, bytes }
    }

    pub(super) fn events(revision: i64, watch_id: i64, batch: Batch, fragment: bool) -> Self {
        let header = Some(ResponseHeader { revision, ..Default::default() });
        let events = batch.events;
        let response = WatchResponse { header, watch_id, events, ..Default::default() };
        Self { response, fragment, bytes: RESPONSE_BYTES + batch.bytes }
    }
}

#[derive(Default)]
pub(super) struct Stream {
    /// Watcher numbers by the ids the client knows.
    pub(super) watchers: BTreeMap<i64, usize>,
    /// Ids of watchers that a compaction canceled. As in etcd they stay in use until the client
    /// cancels them too, which its libraries do, and which is answered.
    pub(super) compacted: BTreeMap<i64, Claim>,
    /// Where to look for an id when the client leaves it to the server.
    pub(super) next_id: i64,
    /// Watchers that are not synced, the one to go on with first.
    pub(super) lagging: VecDeque<usize>,
    queue: VecDeque<Outgoing>,
    queue_bytes: usize,
    /// Bytes of the response that was handed out last: until the next one is asked for, it waits
    /// for the connection.
    sending: usize,
    /// Responses ever taken from the queue.
    taken: u64,
    /// Whether lagging watchers go before the queue this time. They take turns: neither a busy
    /// nor a lagging watcher can starve the other.
    lagging_first: bool,
    waker: Option<Waker>,
}

impl Stream {
    /// Whether there is room for another response, when the lane holds `held` bytes.
    pub(super) fn is_full(&self, limits: &Limits, held: usize) -> bool {
        self.queue.len() >= limits.queue_responses
            || self.queue_bytes >= limits.within_lane(limits.queue_bytes, held)
    }

    /// The bytes it adds to what the lane holds.
    pub(super) fn push(&mut self, outgoing: Outgoing) -> usize {
        let bytes = outgoing.bytes;
        self.queue_bytes += bytes;
        self.queue.push_back(outgoing);
        self.wake();
        bytes
    }

    /// What this stream adds to what the lane holds.
    pub(super) fn held(&self) -> usize {
        self.queue_bytes + self.sending
    }

    /// Takes note of a response that goes out without having been in the queue.
    pub(super) fn send(&mut self, outgoing: &Outgoing) -> usize {
        self.sending = outgoing.bytes;
        outgoing.bytes
    }

    /// The response handed out last is on the connection. Its bytes.
    pub(super) fn sent(&mut self) -> usize {
        std::mem::take(&mut self.sending)
    }

    /// The next response of the queue, unless it is the lagging watchers' turn.
    pub(super) fn take(&mut self) -> Option<Outgoing> {
        if self.lagging_first {
            self.lagging_first = false;
            return None;
        }
        let outgoing = self.queue.pop_front()?;
        self.lagging_first = !self.lagging.is_empty();
        self.queue_bytes -= outgoing.bytes;
        self.sending = outgoing.bytes;
        self.taken += 1;
        if self.queue.is_empty() && self.queue.capacity() > QUEUE_KEPT {
            self.queue = VecDeque::new();
        }
        Some(outgoing)
    }

    pub(super) fn has_id(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.compacted.contains_key(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Responses ever taken once all that are queued now are.
    pub(super) fn mark(&self) -> u64 {
        self.taken + self.queue.len() as u64
    }

    pub(super) fn passed(&self, mark: u64) -> bool {
        self.taken >= mark
    }

    pub(super) fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(kept) => kept.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
