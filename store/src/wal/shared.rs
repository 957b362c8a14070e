//! What the callers, the writer and the readers of the log share, behind one lock.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::Bytes;

use crate::LogId;

use super::cache::Cache;
use super::index::{Points, Terms};
use super::log::Completion;
use super::record::{ENTRY_HEADER, HEADER};
use super::reserve::Reserve;
use super::segment::Segment;
use super::stats::WalStats;

/// What the writer is asked to put into the log, in order.
pub(super) enum Op {
    Entries(Vec<(LogId, Bytes)>, Completion),
    Vote(Bytes, Completion),
    Truncate(LogId),
    Purge(LogId),
}

impl Op {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Op::Entries(entries, _) => {
                entries.iter().map(|(_, payload)| HEADER + ENTRY_HEADER + payload.len()).sum()
            }
            Op::Vote(vote, _) => HEADER + vote.len(),
            Op::Truncate(_) | Op::Purge(_) => HEADER + 16,
        }
    }

    pub(super) fn complete(self, result: io::Result<()>) {
        match self {
            Op::Entries(_, done) | Op::Vote(_, done) => done(result),
            Op::Truncate(_) | Op::Purge(_) => {}
        }
    }
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// The writer has something to do.
    pub(super) work: Condvar,
    /// `flushed` moved, or never will.
    pub(super) flushed: Condvar,
    /// Held while the last sector is written again, so that a reader can tell a half-written
    /// sector from a damaged one.
    pub(super) rewriting: Mutex<()>,
    pub(super) reserve: Reserve,
}

/// `purged <= last`; `flushed <= last.index`; entries after `flushed` are in the cache.
pub(super) struct State {
    pub(super) queue: Vec<Op>,
    pub(super) queued_bytes: usize,
    /// Rides with the next group, or with the last.
    pub(super) committed: Option<LogId>,
    pub(super) writer_waits: bool,
    pub(super) closing: bool,
    /// The writer has written all it ever will.
    pub(super) ended: bool,
    pub(super) failed: Option<Failed>,

    pub(super) purged: LogId,
    pub(super) last: LogId,
    pub(super) flushed: u64,
    /// The lowest index truncated to since the writer took the queue: the group it is writing
    /// says nothing about entries after it.
    pub(super) flushed_max: u64,
    pub(super) flush_waiters: usize,

    pub(super) cache: Cache,
    pub(super) terms: Terms,
    pub(super) points: Points,
    /// Oldest first; the last is written on.
    pub(super) segments: VecDeque<Arc<Segment>>,
    /// End of the stream in the last segment.
    pub(super) position: u32,
    pub(super) stats: WalStats,
    pub(super) record_bytes: u64,
}

/// The error that ended the log, kept for everybody who asks later.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) kind: io::ErrorKind,
    pub(super) message: String,
}

impl Failed {
    pub(super) fn to_error(&self) -> io::Error {
        io::Error::new(self.kind, self.message.clone())
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic while the log is locked is a bug and ends the process")
    }

    /// Hands segments that are not needed any more to the reserve.
    pub(super) fn drop_purged(&self, purged: LogId) {
        let mut retired = Vec::new();
        let mut state = self.lock();
        while state.segments.len() > 1 && state.segments[0].index_max() <= purged.index {
            retired.extend(state.segments.pop_front());
        }
        if let Some(first) = state.segments.front() {
            let sequence = first.sequence();
            state.points.drop_segments_below(sequence);
        }
        drop(state);
        if !retired.is_empty() {
            self.reserve.retire(retired);
        }
    }
}
