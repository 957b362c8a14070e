//! Catching up: steps through the ring and the store's history for one lagging watcher.
//!
//! The lane's lock is not held while reading. Nothing else can touch the watcher meanwhile: the
//! lane's task leaves lagging watchers alone, and requests are taken by the stream that reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::etcdserverpb::WatchResponse;
use store::mvcc::{HistoryLimits, RevisionEvents};
use store::{Fatal, ReadError, Refusal};

use super::hub::{Hub, Limits};
use super::lane::{Lane, State};
use super::ring::Run;
use super::stream::Outgoing;
use super::watcher::{Batch, Place, Previous, Spec};
use crate::limits;

/// Runs taken from the ring at a time, which bounds the time its lock is held.
const STEP_RUNS: usize = 64;

/// What came of a step.
pub(super) enum Step {
    /// The watcher's next response, or its last one.
    Response(Outgoing),
    /// The watcher came further, or caught up with nothing to send.
    Advanced,
    /// No lagging watcher of the stream can go on now.
    Idle,
}

impl Lane {
    /// Lets the first lagging watcher of a stream that may go on do one step.
    pub(super) fn catch_up(&self, stream: usize) -> Step {
        let (key, next, spec, mut batch, room) = {
            let mut state = self.state();
            let Some((key, next)) = state.next_lagging(stream) else { return Step::Idle };
            let watcher = &mut state.watchers[key];
            let batch = std::mem::take(&mut watcher.batch);
            let spec = watcher.spec.clone();
            let room = state.room(&batch);
            (key, next, spec, batch, room)
        };
        let read = self.hub.read(next, &spec, &mut batch, room);
        self.state().caught_up_to(key, batch, read)
    }
}

/// The source does not hold what a watcher needs.
enum Failure {
    Compacted,
    Fatal(Fatal),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Refused(Refusal::Compacted) => Failure::Compacted,
            ReadError::Refused(other) => {
                Failure::Fatal(Fatal::Engine(format!("history is refused: {other}")))
            }
            ReadError::Fatal(fatal) => Failure::Fatal(fatal),
        }
    }
}

impl From<Fatal> for Failure {
    fn from(fatal: Fatal) -> Self {
        Failure::Fatal(fatal)
    }
}

/// How far a step came: everything before `next` is in the batch, of all up to `published`.
struct Reached {
    next: i64,
    published: i64,
}

impl Hub {
    /// Adds what the watcher wants of the revisions from `next` on to the batch: one step.
    fn read(
        &self,
        next: i64,
        spec: &Spec,
        batch: &mut Batch,
        room: HistoryLimits,
    ) -> Result<Reached, Failure> {
        if next < self.source.compacted() {
            return Err(Failure::Compacted);
        }
        let (runs, published) = {
            let ring = self.ring();
            (ring.since(next, STEP_RUNS), ring.last())
        };
        let next = match runs {
            Some(runs) => self.read_runs(&runs, next, room, spec, batch)?,
            None => {
                let wants = |key: &[u8]| spec.span.contains(key);
                let history = self.source.history(next, room, &wants)?;
                for revision in &history.events {
                    // What is not published yet comes through the ring.
                    if revision.main <= published {
                        self.add(revision, spec, batch)?;
                    }
                }
                history.next.min(published + 1)
            }
        };
        Ok(Reached { next, published })
    }

    /// The revision after the last one read.
    fn read_runs(
        &self,
        runs: &[(usize, Run)],
        mut next: i64,
        room: HistoryLimits,
        spec: &Spec,
        batch: &mut Batch,
    ) -> Result<i64, Failure> {
        let (revisions_max, bytes_max) =
            (batch.revisions + room.revisions, batch.bytes + room.bytes);
        for revision in runs.iter().flat_map(|(_, run)| run.iter()) {
            if batch.revisions >= revisions_max || batch.bytes >= bytes_max {
                break;
            }
            if revision.main >= next {
                self.add(revision, spec, batch)?;
                next = revision.main + 1;
            }
        }
        Ok(next)
    }

    fn add(
        &self,
        revision: &Arc<RevisionEvents>,
        spec: &Spec,
        batch: &mut Batch,
    ) -> Result<(), Fatal> {
        for change in &revision.events {
            if spec.wants(change.kind) && spec.span.contains(&change.key) {
                let mut previous = Previous::new(&*self.source, revision, change);
                let prev_kv = if spec.prev_kv { previous.get()? } else { None };
                batch.push(revision.main, change, prev_kv);
            }
        }
        Ok(())
    }
}

impl State {
    /// What one step may add to a batch.
    fn room(&self, batch: &Batch) -> HistoryLimits {
        let Limits { batch_revisions, step_revisions, step_bytes, .. } = self.hub.limits;
        HistoryLimits {
            revisions: batch_revisions.saturating_sub(batch.revisions).clamp(1, step_revisions),
            bytes: self.batch_bytes().saturating_sub(batch.bytes).clamp(1, step_bytes),
        }
    }

    fn is_complete(&self, batch: &Batch) -> bool {
        batch.revisions >= self.hub.limits.batch_revisions || batch.bytes >= self.batch_bytes()
    }

    fn batch_bytes(&self) -> usize {
        self.hub.limits.within_lane(self.hub.limits.batch_bytes, self.held)
    }

    /// Takes the first lagging watcher that has nothing in the queue any more from the list.
    fn next_lagging(&mut self, stream: usize) -> Option<(usize, i64)> {
        let stream = &mut self.streams[stream];
        for (at, key) in stream.lagging.iter().copied().enumerate() {
            match self.watchers[key].place {
                Place::Lagging { next, after } if stream.passed(after) => {
                    stream.lagging.remove(at);
                    return Some((key, next));
                }
                _ => {}
            }
        }
        None
    }

    /// Puts the result of a step back, and sends the batch if it is complete.
    fn caught_up_to(&mut self, key: usize, batch: Batch, read: Result<Reached, Failure>) -> Step {
        let reached = match read {
            Ok(reached) => reached,
            Err(Failure::Compacted) => return Step::Response(self.cancel_compacted(key)),
            Err(Failure::Fatal(fatal)) => {
                self.hub.fail(fatal);
                self.close();
                return Step::Idle;
            }
        };
        let caught_up = reached.next > reached.published;
        let complete = self.is_complete(&batch);
        let watcher = &mut self.watchers[key];
        let Place::Lagging { next, after } = &mut watcher.place else {
            unreachable!("only the stream that catches up moves a lagging watcher");
        };
        assert!(reached.next > *next || caught_up, "a step through history goes forward");
        *next = reached.next;
        *after = 0;
        let (id, stream, fragment) = (watcher.id, watcher.stream, watcher.spec.fragment);
        let lagging = &mut self.streams[stream].lagging;
        if caught_up {
            self.signal.lagging.fetch_sub(1, Ordering::Relaxed);
            self.place(key, reached.next);
        } else if complete {
            lagging.push_back(key);
        } else {
            // The same goes on, so that a stream holds one unfinished batch at most.
            lagging.push_front(key);
            watcher.batch = batch;
            return Step::Advanced;
        }
        if batch.events.is_empty() {
            return Step::Advanced;
        }
        self.watchers[key].busy = true;
        self.signal.events.fetch_add(batch.events.len(), Ordering::Relaxed);
        let outgoing = Outgoing::events(reached.published, id, batch, fragment);
        self.held += self.streams[stream].send(&outgoing);
        Step::Response(outgoing)
    }

    /// What the watcher needs next is gone. The revision in the header is 0, as in etcd.
    fn cancel_compacted(&mut self, key: usize) -> Outgoing {
        let mut watcher = self.remove_watcher(key);
        // Less has always room.
        let _ = watcher.claim.resize(limits::ENDED_WATCHER_BYTES);
        self.streams[watcher.stream].compacted.insert(watcher.id, watcher.claim);
        let compact_revision = self.hub.source.compacted();
        let response = WatchResponse {
            watch_id: watcher.id,
            canceled: true,
            compact_revision,
            ..Default::default()
        };
        Outgoing::control(0, response)
    }
}
