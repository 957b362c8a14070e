//! The newest revisions, kept in memory for the watchers that follow them.
//!
//! Runs are kept as they were published, so that publishing and reading move one pointer for each
//! run however many revisions it has.

use std::collections::VecDeque;
use std::sync::Arc;

use store::mvcc::RevisionEvents;

/// Consecutive revisions that were applied together. Never empty.
pub(super) type Run = Arc<Vec<Arc<RevisionEvents>>>;

/// A run's overhead in the ring's account of bytes: pointers and allocations.
const RUN_BYTES: usize = 64;
const REVISION_BYTES: usize = 64;

pub(super) struct Ring {
    runs: VecDeque<(usize, Run)>,
    bytes: usize,
    bytes_max: usize,
    /// The newest published revision.
    last: i64,
}

impl Ring {
    pub(super) fn new(last: i64, bytes_max: usize) -> Self {
        Self { runs: VecDeque::new(), bytes: 0, bytes_max, last }
    }

    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// Adds the run after the last one and returns those it displaced, for the caller to drop
    /// without the lock.
    pub(super) fn push(&mut self, bytes: usize, run: Run) -> Vec<(usize, Run)> {
        let consecutive = run.windows(2).all(|pair| pair[1].main == pair[0].main + 1);
        assert!(consecutive && first(&run) == self.last + 1, "revisions are published in order");
        let mut displaced = Vec::new();
        self.last = run.last().expect("a run is never empty").main;
        self.runs.push_back((bytes, run));
        self.bytes += bytes;
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.runs.pop_front()
        {
            self.bytes -= oldest.0;
            displaced.push(oldest);
        }
        displaced
    }

    /// Forgets all runs: history continues after `last`, and what is before it is in the store.
    pub(super) fn restart(&mut self, last: i64) -> VecDeque<(usize, Run)> {
        self.last = last;
        self.bytes = 0;
        std::mem::take(&mut self.runs)
    }

    /// The runs from the one that holds `revision` on, `runs_max` of them; `None` when the ring
    /// does not reach back that far. Later revisions than the last are an empty answer.
    pub(super) fn since(&self, revision: i64, runs_max: usize) -> Option<Vec<(usize, Run)>> {
        if revision > self.last {
            return Some(Vec::new());
        }
        let (_, oldest) = self.runs.front()?;
        if revision < first(oldest) {
            return None;
        }
        let at = self.runs.partition_point(|(_, run)| first(run) <= revision) - 1;
        Some(self.runs.iter().skip(at).take(runs_max).cloned().collect())
    }
}

/// What a run counts for in the ring.
pub(super) fn run_bytes(run: &[Arc<RevisionEvents>]) -> usize {
    let events = run.iter().flat_map(|revision| &revision.events);
    RUN_BYTES + run.len() * REVISION_BYTES + events.map(super::source::event_bytes).sum::<usize>()
}

fn first(run: &Run) -> i64 {
    run.first().expect("a run is never empty").main
}
