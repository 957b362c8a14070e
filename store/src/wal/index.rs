//! What is kept in memory about entries on disk: a point every 64 KiB, and the index at which
//! each term begins.

use std::collections::VecDeque;

use crate::LogId;

/// Bytes of the stream between two points; a read begins at most this far too early.
pub(super) const POINT_DISTANCE: u32 = 64 << 10;

/// Where an entry begins. The entries from one point to the next are consecutive on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) index: u64,
    pub(super) sequence: u32,
    pub(super) offset: u32,
}

/// Ascending in `index` and in place.
#[derive(Debug, Default)]
pub(super) struct Points(VecDeque<Point>);

impl Points {
    pub(super) fn push(&mut self, point: Point) {
        if let Some(last) = self.0.back() {
            assert!(last.index < point.index, "points ascend");
        }
        self.0.push_back(point);
    }

    /// The last point at or before an index.
    pub(super) fn find(&self, index: u64) -> Option<Point> {
        let after = self.0.partition_point(|point| point.index <= index);
        self.0.get(after.checked_sub(1)?).copied()
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        while self.0.back().is_some_and(|point| point.index > index) {
            self.0.pop_back();
        }
    }

    pub(super) fn drop_segments_below(&mut self, sequence: u32) {
        while self.0.front().is_some_and(|point| point.sequence < sequence) {
            self.0.pop_front();
        }
    }
}

/// Decides which entries become points.
#[derive(Debug, Default)]
pub(super) struct PointMaker {
    /// Offset of the last point in this segment; none yet, or entries stopped being consecutive.
    last: Option<u32>,
}

impl PointMaker {
    /// The next entry must be a point: it does not follow the one before it on disk.
    pub(super) fn interrupt(&mut self) {
        self.last = None;
    }

    pub(super) fn wants(&mut self, offset: u32) -> bool {
        let wants = self.last.is_none_or(|last| offset - last >= POINT_DISTANCE);
        if wants {
            self.last = Some(offset);
        }
        wants
    }
}

/// The term of each entry, as runs of (first index, term).
#[derive(Debug, Default)]
pub(super) struct Terms(VecDeque<(u64, u64)>);

impl Terms {
    pub(super) fn push(&mut self, id: LogId) {
        if self.0.back().is_none_or(|(_, term)| *term != id.term) {
            self.0.push_back((id.index, id.term));
        }
    }

    pub(super) fn get(&self, index: u64) -> Option<u64> {
        let after = self.0.partition_point(|(first, _)| *first <= index);
        self.0.get(after.checked_sub(1)?).map(|(_, term)| *term)
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        while self.0.back().is_some_and(|(first, _)| *first > index) {
            self.0.pop_back();
        }
    }

    pub(super) fn purge(&mut self, index: u64) {
        while self.0.get(1).is_some_and(|(first, _)| *first <= index) {
            self.0.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
