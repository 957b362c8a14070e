//! Compaction: the watermark rises when the command is applied; what it made unreadable is removed
//! afterwards, in short slices, and only while nobody reads below it.

use std::collections::VecDeque;

use super::hash::{Counts, HASHES_KEPT, HashWork};
use super::store::{Step, Store};
use crate::Fatal;

/// Records removed under one lock.
const SLICE_RECORDS: usize = 2048;

/// Compactions whose removal is not complete, oldest first.
#[derive(Debug, Default)]
pub(super) struct Due(VecDeque<Job>);

#[derive(Clone, Copy, Debug)]
struct Job {
    previous: i64,
    target: i64,
    /// Whether the one before was complete, so that the hash says something.
    hashed: bool,
}

/// The compaction under way.
pub(super) struct Compacting {
    job: Job,
    stage: Stage,
}

enum Stage {
    Hash(HashWork),
    /// Removes from this key on.
    Remove(Vec<u8>),
}

impl Due {
    /// What a restart interrupted. Rows may be gone already, so there is no hash.
    pub(super) fn resumed(finished: i64, compacted: i64) -> Self {
        let job = Job { previous: finished, target: compacted, hashed: false };
        Self((finished < compacted).then_some(job).into_iter().collect())
    }

    pub(super) fn push(&mut self, previous: i64, target: i64, finished: i64) {
        if self.0.len() > 1
            && let Some(last) = self.0.back_mut()
        {
            // Not begun, and without a hash anyway: one removal does for both.
            last.target = target;
            return;
        }
        self.0.push_back(Job { previous, target, hashed: previous == finished });
    }

    /// The watermark that the hash of a compaction to `target` starts from, while it is not taken.
    pub(super) fn hashed_from(&self, target: i64) -> Option<i64> {
        let job = self.0.iter().find(|job| job.hashed && job.target == target)?;
        Some(job.previous)
    }
}

impl Store {
    /// The newest compaction whose removal is complete; -1 before the first.
    pub fn compaction_finished(&self) -> i64 {
        self.state().finished
    }

    /// Goes on with the compaction that is due until it is done, or until so many bytes of rows
    /// wait for a checkpoint that this has to come first; does something in any case. True when the
    /// next call can follow at once.
    pub fn compact(&self, recent_bytes_max: usize) -> Result<bool, Fatal> {
        let mut more = self.compact_step()?;
        while more && self.sizes().recent_bytes < recent_bytes_max as u64 {
            more = self.compact_step()?;
        }
        Ok(more)
    }

    /// Does a bounded piece of the compaction that is due. True when the next piece can follow at
    /// once; false when there is nothing to do, or somebody still reads what would go.
    pub fn compact_step(&self) -> Result<bool, Fatal> {
        let mut compacting = self.compacting.lock().expect("a panic ends the process");
        let Some(running) = &mut *compacting else {
            let Some(job) = self.state().due.0.front().copied() else { return Ok(false) };
            let stage = match job.hashed {
                true => {
                    Stage::Hash(HashWork::new(job.target, job.previous, Counts::LiveOrJustDeleted))
                }
                false => Stage::Remove(Vec::new()),
            };
            *compacting = Some(Compacting { job, stage });
            return Ok(true);
        };
        let target = running.job.target;
        match &mut running.stage {
            Stage::Hash(work) => {
                if let Step::Done(hash) = work.step(self)? {
                    let mut state = self.state_mut();
                    state.hashes.push_back(hash);
                    if state.hashes.len() > HASHES_KEPT {
                        state.hashes.pop_front();
                    }
                    running.stage = Stage::Remove(Vec::new());
                }
            }
            Stage::Remove(from) => match self.remove_slice(from, target) {
                Slice::Waiting => return Ok(false),
                Slice::More(next) => *from = next,
                Slice::Last => *compacting = None,
            },
        }
        Ok(true)
    }

    fn remove_slice(&self, from: &[u8], target: i64) -> Slice {
        // Given back after the lock is: freeing takes longer than forgetting.
        let mut freed = Vec::new();
        let mut state = self.state_mut();
        // What a checkpoint has set aside goes to the engine as its meta row says: a version that
        // is dropped meanwhile would outlive the tombstone above it.
        if state.frozen.is_some() || self.pins.any_below(target) {
            return Slice::Waiting;
        }
        let mut dropped = Vec::new();
        let next = state.index.trim(from, target, SLICE_RECORDS, |key_bytes, record| {
            dropped.push((key_bytes, record));
        });
        for (key_bytes, record) in dropped {
            freed.extend(state.drop_row(key_bytes, record));
        }
        let slice = match next {
            Some(next) => Slice::More(next),
            None => {
                state.finished = target;
                state.due.0.pop_front();
                Slice::Last
            }
        };
        drop(state);
        drop(freed);
        slice
    }
}

enum Slice {
    Waiting,
    /// Go on from this key.
    More(Vec<u8>),
    Last,
}
