//! What clients ask of a stream: create a watcher, cancel one, tell the progress.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

use super::lane::State;
use super::stream::Outgoing;
use super::watcher::{Batch, Place, Spec, Watcher, bytes_of};
use crate::budget;

/// The id of no watcher: in answers to refused requests, and for all watchers of a stream.
const NO_WATCHER: i64 = -1;

/// Reasons not to create a watcher, in etcd's words: clients know some of them.
const NEGATIVE_START: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// A reason of our own, in words that clients know.
pub const NO_ROOM: &str = "etcdserver: too many requests";

impl State {
    /// Carries out a request. Kinds this version does not know are ignored.
    pub(super) fn handle(&mut self, stream: usize, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(stream, create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(stream, cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.progress_of_all(stream),
            None => {}
        }
    }

    /// The answer is queued before the watcher gets its place, hence before any event.
    fn create(&mut self, stream: usize, request: WatchCreateRequest) {
        self.drain();
        // At least what the clients of this member were told so far.
        let current = self.hub.source.revision();
        let (start, wanted_id) = (request.start_revision, request.watch_id);
        let mut claim = budget::WATCHERS.claim();
        let room = claim.resize(bytes_of(&request));
        let created = match Spec::new(request) {
            _ if start < 0 => Err(NEGATIVE_START),
            None => Err(EMPTY_RANGE),
            Some(_) if room.is_err() => Err(NO_ROOM),
            Some(spec) => match self.choose_id(stream, wanted_id) {
                None => Err(DUPLICATE_ID),
                Some(id) => Ok((id, spec)),
            },
        };
        let (watch_id, cancel_reason) = match &created {
            Ok((id, _)) => (*id, ""),
            Err(reason) => (NO_WATCHER, *reason),
        };
        self.answer_create(stream, current, (watch_id, cancel_reason));

        let Ok((id, spec)) = created else { return };
        let key = self.watchers.insert(Watcher {
            stream,
            id,
            spec: Arc::new(spec),
            place: Place::Synced { from: 0 },
            batch: Batch::default(),
            busy: false,
            claim,
        });
        self.streams[stream].watchers.insert(id, key);
        self.signal.watchers.fetch_add(1, Ordering::Relaxed);
        self.place(key, if start == 0 { current + 1 } else { start });
    }

    pub(super) fn refuse(&mut self, stream: usize, reason: &str) {
        self.drain();
        let current = self.hub.source.revision();
        self.answer_create(stream, current, (NO_WATCHER, reason));
    }

    fn answer_create(&mut self, stream: usize, revision: i64, (watch_id, reason): (i64, &str)) {
        let response = WatchResponse {
            watch_id,
            created: true,
            canceled: !reason.is_empty(),
            cancel_reason: reason.into(),
            ..Default::default()
        };
        self.push(stream, Outgoing::control(revision, response));
    }

    /// The id for a new watcher: the wanted one unless it is taken, the next free one for 0.
    fn choose_id(&mut self, stream: usize, wanted: i64) -> Option<i64> {
        let stream = &mut self.streams[stream];
        if wanted != 0 {
            return (!stream.has_id(wanted)).then_some(wanted);
        }
        while stream.has_id(stream.next_id) {
            stream.next_id += 1;
        }
        stream.next_id += 1;
        Some(stream.next_id - 1)
    }

    fn cancel(&mut self, stream: usize, watch_id: i64) {
        if let Some(key) = self.streams[stream].watchers.get(&watch_id).copied() {
            self.remove_watcher(key);
        } else if self.streams[stream].compacted.remove(&watch_id).is_none() {
            return;
        }
        let response = WatchResponse { watch_id, canceled: true, ..Default::default() };
        let current = self.hub.source.revision();
        self.push(stream, Outgoing::control(current, response));
    }

    /// Tells the revision for all watchers of a stream, if all are synced and have started.
    fn progress_of_all(&mut self, stream: usize) {
        self.drain();
        let mut watchers = self.streams[stream].watchers.values().peekable();
        if watchers.peek().is_some() && watchers.all(|key| self.is_current(*key)) {
            self.push_progress(stream, NO_WATCHER);
        }
    }

    /// Tells the revision to those watchers of a stream that asked to hear it when they are quiet.
    pub(super) fn tick(&mut self, stream: usize) {
        self.drain();
        for key in self.streams[stream].watchers.values().copied().collect::<Vec<_>>() {
            let busy = std::mem::replace(&mut self.watchers[key].busy, false);
            if self.watchers[key].spec.progress && !busy && self.is_current(key) {
                self.push_progress(stream, self.watchers[key].id);
            }
        }
    }

    /// Whether the watcher has everything up to the cursor, and the cursor has reached the
    /// revision it asked to start at, or was told when it was created.
    fn is_current(&self, key: usize) -> bool {
        let watcher = &self.watchers[key];
        let Place::Synced { from } = watcher.place else { return false };
        from <= self.cursor + 1 && watcher.spec.start <= self.cursor
    }

    /// Behind all events up to the cursor: they are in the queue already, or were taken from it.
    fn push_progress(&mut self, stream: usize, watch_id: i64) {
        if !self.streams[stream].is_full(&self.hub.limits, self.held) {
            let response = WatchResponse { watch_id, ..Default::default() };
            self.push(stream, Outgoing::control(self.cursor, response));
        }
    }

    fn push(&mut self, stream: usize, outgoing: Outgoing) {
        self.held += self.streams[stream].push(outgoing);
    }
}
