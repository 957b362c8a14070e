//! The newest entries, in memory: everything that is not durable yet, and as much more as fits.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::LogId;

#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Consecutive.
    entries: VecDeque<(LogId, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub(super) fn push(&mut self, id: LogId, payload: Bytes) {
        if let Some((last, _)) = self.entries.back() {
            assert_eq!(last.index + 1, id.index, "entries in the cache are consecutive");
        }
        self.bytes += payload.len();
        self.entries.push_back((id, payload));
    }

    /// The first index it holds.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|(id, _)| id.index)
    }

    /// Entries from `first`, which must be in it, up to `end` or `bytes_max`, at least one.
    pub(super) fn read(&self, first: u64, end: u64, bytes_max: usize) -> Vec<(LogId, Bytes)> {
        let begin = self.first().expect("a read from the cache finds its first entry in it");
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.entries.range((first - begin) as usize..) {
            bytes += entry.1.len();
            if entry.0.index >= end || (bytes > bytes_max && !entries.is_empty()) {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    /// Lets go of the oldest entries above the limit, but never of one that is not durable.
    pub(super) fn evict(&mut self, flushed: u64) {
        while self.bytes > self.bytes_max && self.first().is_some_and(|index| index <= flushed) {
            self.pop_front();
        }
        // A burst must not pin its memory for ever.
        if self.entries.capacity() > 4096 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        while self.entries.back().is_some_and(|(id, _)| id.index > index) {
            let (_, payload) = self.entries.pop_back().expect("just seen");
            self.bytes -= payload.len();
        }
    }

    pub(super) fn purge(&mut self, index: u64) {
        while self.first().is_some_and(|first| first <= index) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some((_, payload)) = self.entries.pop_front() {
            self.bytes -= payload.len();
        }
    }
}
