//! What is kept in memory about entries on disk: a point every 64 KiB, and the index at which
//! each term begins.

use std::collections::VecDeque;

use crate::LogId;

/// Bytes of the stream between two points; a read begins at most this far too early.
pub(super) const POINT_DISTANCE: u32 = 64 << 10;

/// Where an entry begins. The entries from one point to the next are consecutive on disk; what
/// stands between the last of them and the next point may be entries that were truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) index: u64,
    pub(super) sequence: u32,
    pub(super) offset: u32,
    /// The entry before it does not stand before it on disk.
    pub(super) jump: bool,
}

impl Point {
    /// Bytes of the stream before it.
    fn place(self, segment_bytes: u64) -> u64 {
        u64::from(self.sequence) * segment_bytes + u64::from(self.offset)
    }
}

/// Ascending in `index` and in place.
#[derive(Debug, Default)]
pub(super) struct Points {
    points: VecDeque<Point>,
    /// Indices of the points that are jumps: few, one for each truncation.
    jumps: VecDeque<u64>,
}

impl Points {
    pub(super) fn push(&mut self, point: Point) {
        if let Some(last) = self.points.back() {
            assert!(last.index < point.index, "points ascend");
        }
        if point.jump {
            self.jumps.push_back(point.index);
        }
        self.points.push_back(point);
    }

    /// The last point at or before an index.
    pub(super) fn find(&self, index: u64) -> Option<Point> {
        let after = self.points.partition_point(|point| point.index <= index);
        self.points.get(after.checked_sub(1)?).copied()
    }

    /// Where in the stream the last point at or before an index stands, or else the first of all.
    pub(super) fn place(&self, index: u64, segment_bytes: u64) -> Option<u64> {
        self.find(index).or(self.points.front().copied()).map(|point| point.place(segment_bytes))
    }

    /// The last entry known to stand `bytes` of the stream before the one at `index`.
    pub(super) fn before(&self, index: u64, bytes: u64, segment_bytes: u64) -> Option<u64> {
        let upto = self.find(index)?.place(segment_bytes).checked_sub(bytes)?;
        let after = self.points.partition_point(|point| point.place(segment_bytes) <= upto);
        self.points.get(after.checked_sub(1)?).map(|point| point.index)
    }

    /// The first jump after an index: reading on from before it would meet truncated entries.
    pub(super) fn jump_after(&self, index: u64) -> Option<u64> {
        let after = self.jumps.partition_point(|jump| *jump <= index);
        self.jumps.get(after).copied()
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        while self.points.back().is_some_and(|point| point.index > index) {
            self.points.pop_back();
        }
        while self.jumps.back().is_some_and(|jump| *jump > index) {
            self.jumps.pop_back();
        }
    }

    pub(super) fn drop_segments_below(&mut self, sequence: u32) {
        while self.points.front().is_some_and(|point| point.sequence < sequence) {
            self.points.pop_front();
        }
        let first = self.points.front().map_or(u64::MAX, |point| point.index);
        while self.jumps.front().is_some_and(|jump| *jump < first) {
            self.jumps.pop_front();
        }
    }
}

/// Decides which entries become points.
#[derive(Debug, Default)]
pub(super) struct PointMaker {
    /// Offset of the last point in this segment.
    last: Option<u32>,
    jump: bool,
}

impl PointMaker {
    /// The next entry must be a point: it does not follow the one before it on disk.
    pub(super) fn interrupt(&mut self) {
        (self.last, self.jump) = (None, true);
    }

    pub(super) fn begin_segment(&mut self) {
        self.last = None;
    }

    /// The point that this entry is to be, if any.
    pub(super) fn point(&mut self, index: u64, sequence: u32, offset: u32) -> Option<Point> {
        if self.last.is_some_and(|last| offset - last < POINT_DISTANCE) {
            return None;
        }
        self.last = Some(offset);
        Some(Point { index, sequence, offset, jump: std::mem::take(&mut self.jump) })
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
