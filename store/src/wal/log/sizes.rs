//! How much there is, was, and can still be.

use super::super::sector::capacity;
use super::Wal;
use crate::wal::WalStats;

/// How far the log is from needing space that it may not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes for records that the current segment can still take, queued ones not yet counted.
    pub bytes_left_in_segment: u64,
    /// The next segment exists: at least its size can be written whatever the disk says.
    pub spare_ready: bool,
    /// Why it does not, when it was tried. Tried again by [`Wal::retry_reserve`] and after each
    /// purge.
    pub spare_failure: Option<String>,
}

impl Wal {
    /// Bytes of records since the log was opened.
    pub fn bytes_written(&self) -> u64 {
        self.lock().record_bytes
    }

    /// Bytes of records in the segments that are kept, roughly: closed ones count whole.
    pub fn retained_bytes(&self) -> u64 {
        let state = self.lock();
        let closed = state.segments.len().saturating_sub(1);
        state.segments.range(..closed).map(|segment| segment.bytes).sum::<u64>()
            + u64::from(state.position)
    }

    /// The last entry from which about `bytes` of the log, unused ends of segments included, lead
    /// to the entry at `index`; 0 when less is kept.
    pub fn entry_before(&self, index: u64, bytes: u64) -> u64 {
        let segment_bytes = self.segment_bytes();
        self.lock().points.before(index, bytes, segment_bytes).unwrap_or(0)
    }

    /// Bytes of the log behind the entry at `index`, or of all of it if that is not kept any more;
    /// roughly: up to 64 KiB too many, and unused ends of segments count.
    pub fn bytes_after(&self, index: u64) -> u64 {
        let segment_bytes = self.segment_bytes();
        let state = self.lock();
        let end = state.segments.back().map_or(0, |last| {
            u64::from(last.sequence()) * segment_bytes + u64::from(state.position)
        });
        state.points.place(index, segment_bytes).map_or(0, |place| end.saturating_sub(place))
    }

    /// Bytes handed over and not yet taken by the writer.
    pub fn queued_bytes(&self) -> usize {
        self.lock().queued_bytes
    }

    pub fn stats(&self) -> WalStats {
        self.lock().stats.clone()
    }

    pub fn room(&self) -> Room {
        let reserve = &self.inner.shared.reserve;
        let (spare_ready, spare_failure) = (reserve.ready(), reserve.failure());
        let state = self.lock();
        let bytes = state.segments.back().map_or(0, |segment| capacity(segment.bytes));
        let left = u64::from(bytes.saturating_sub(state.position));
        Room { bytes_left_in_segment: left, spare_ready, spare_failure }
    }

    pub fn segment_bytes(&self) -> u64 {
        self.inner.segment_bytes
    }
}
