//! Numbers that go up, and how often what took how long.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that many threads add to. Also what goes up and down, if it never goes below 0.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub fn take(&self, count: u64) {
        self.0.fetch_sub(count, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of buckets.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub buckets: usize,
    bounds: Bounds,
    /// Values in one unit of what is printed: 1e9 for nanoseconds.
    pub per_unit: f64,
}

/// In the unit of the values: nanoseconds, unless these are no times.
#[derive(Clone, Copy, Debug)]
enum Bounds {
    /// Each twice the one before, from this one on: which one a value belongs to is known from its
    /// first digit.
    Doubling(u64),
    Listed(&'static [u64]),
}

const MS: u64 = 1_000_000;
/// What Prometheus' libraries take if they are told nothing.
const CALL_BOUNDS: &[u64] = &[
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    1000 * MS,
    2500 * MS,
    5000 * MS,
    10_000 * MS,
];

impl Grid {
    const fn seconds(first_us: u64, buckets: usize) -> Grid {
        Grid { bounds: Bounds::Doubling(first_us * 1000), buckets, per_unit: 1e9 }
    }

    // As etcd's.
    pub const APPLY: Grid = Grid::seconds(100, 20);
    pub const DISK: Grid = Grid::seconds(1000, 14);
    pub const SNAPSHOT: Grid = Grid::seconds(10_000, 17);
    pub const HASH: Grid = Grid::seconds(10_000, 15);
    pub const ROUND_TRIP: Grid = Grid::seconds(100, 16);
    pub const LEASE: Grid = Grid { bounds: Bounds::Doubling(1), buckets: 24, per_unit: 1.0 };
    pub const CALL: Grid =
        Grid { bounds: Bounds::Listed(CALL_BOUNDS), buckets: CALL_BOUNDS.len(), per_unit: 1e9 };

    /// The bound of a bucket as it is printed.
    pub fn bound(&self, bucket: usize) -> f64 {
        let bound = match self.bounds {
            Bounds::Doubling(first) => first << bucket,
            Bounds::Listed(bounds) => bounds[bucket],
        };
        bound as f64 / self.per_unit
    }

    fn bucket_of(&self, value: u64) -> usize {
        let bucket = match self.bounds {
            Bounds::Doubling(first) => {
                (u64::BITS - (value.saturating_sub(1) / first).leading_zeros()) as usize
            }
            Bounds::Listed(bounds) => bounds.partition_point(|bound| *bound < value),
        };
        bucket.min(self.buckets)
    }
}

const BUCKETS_MAX: usize = 24;

/// How often values fell into which bucket.
pub struct Histogram {
    pub grid: Grid,
    /// Not cumulative; the one behind the last bound takes what is above it.
    counts: [AtomicU64; BUCKETS_MAX + 1],
    sum: AtomicU64,
}

impl Histogram {
    pub const fn new(grid: Grid) -> Histogram {
        assert!(grid.buckets <= BUCKETS_MAX);
        Histogram {
            grid,
            counts: [const { AtomicU64::new(0) }; BUCKETS_MAX + 1],
            sum: AtomicU64::new(0),
        }
    }

    pub fn took(&self, time: Duration) {
        self.add(time.as_nanos() as u64);
    }

    pub fn add(&self, value: u64) {
        self.counts[self.grid.bucket_of(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Whether anything was ever added.
    pub fn is_used(&self) -> bool {
        self.counts.iter().any(|count| count.load(Relaxed) > 0)
    }

    /// Counts of the buckets and of what is above, and the sum as it is printed.
    pub fn read(&self) -> (Vec<u64>, f64) {
        let counts = self.counts[..=self.grid.buckets].iter().map(|count| count.load(Relaxed));
        (counts.collect(), self.sum.load(Relaxed) as f64 / self.grid.per_unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(Grid::LEASE);
        for value in [0, 1, 2, 3, 4, 5, 8, 9, 1 << 23, (1 << 23) + 1, u64::MAX / 2] {
            histogram.add(value);
        }
        let (counts, _) = histogram.read();
        assert_eq!(counts[..5], [2, 1, 2, 2, 1]);
        assert_eq!(counts[23..], [1, 2]);
        assert_eq!(Grid::APPLY.bound(19), 52.4288);
        assert_eq!(Grid::DISK.bound(13), 8.192);
        assert_eq!(
            [0, 5, 6, 10_000, 10_001].map(|ms| Grid::CALL.bucket_of(ms * MS)),
            [0, 0, 1, 10, 11]
        );
    }
}
