//! What the log counts about itself.

use std::time::Duration;

/// Upper bounds of the flush latency buckets in microseconds: fine below a millisecond, then
/// etcd's (1 ms doubling to 8.192 s). A last bucket takes what is slower.
pub const FLUSH_BUCKETS_US: [u64; 19] = [
    62, 125, 250, 500, 750, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000,
    512_000, 1_024_000, 2_048_000, 4_096_000, 8_192_000,
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Calls that wrote records.
    pub writes: u64,
    /// `fdatasync` calls of the writer.
    pub flushes: u64,
    /// Groups made durable; each is one write and one flush unless it was huge or rolled over.
    pub groups: u64,
    /// Bytes handed to the disk, framing included.
    pub bytes: u64,
    /// Segments begun since the log was opened, and how many of those reused a file.
    pub segments: u64,
    pub segments_recycled: u64,
    pub flush_latency: Histogram,
}

/// Counts per bucket of [`FLUSH_BUCKETS_US`], not cumulative; the last is "slower than all".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    pub counts: [u64; FLUSH_BUCKETS_US.len() + 1],
    pub sum: Duration,
}

impl Histogram {
    pub(super) fn record(&mut self, took: Duration) {
        let bucket =
            FLUSH_BUCKETS_US.partition_point(|bound| u128::from(*bound) < took.as_micros());
        self.counts[bucket] += 1;
        self.sum += took;
    }
}
