//! Counts values by their number of bits, for openraft's runtime statistics.
//!
//! The published crate of this name computes tables for sixteen resolutions when the first
//! histogram is made: 27 MB that stay in memory, more than all the rest of an idle member. This one
//! answers what openraft asks of it with one resolution and no tables.

use std::fmt;
use std::marker::PhantomData;

/// 0, and one for each number of bits a value can have.
const BUCKETS: usize = u64::BITS as usize + 1;

/// How many values were recorded of each number of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slot: PhantomData<T>,
}

/// Values that so many of all are at most; 50 is the median. Rounded up to all bits set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, p99_9, .. } = self;
        write!(f, "samples: {samples}, 50 %: {p50}, 90 %: {p90}, 99 %: {p99}, 99.9 %: {p99_9}")
    }
}

impl<T> Histogram<T> {
    pub fn new() -> Self {
        Self { counts: [0; BUCKETS], slot: PhantomData }
    }

    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    pub fn record_n(&mut self, value: u64, times: u64) {
        self.counts[(u64::BITS - value.leading_zeros()) as usize] += times;
    }

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.counts.iter().sum(),
            p0_1: self.at_permille(1),
            p1: self.at_permille(10),
            p5: self.at_permille(50),
            p10: self.at_permille(100),
            p50: self.at_permille(500),
            p90: self.at_permille(900),
            p99: self.at_permille(990),
            p99_9: self.at_permille(999),
        }
    }

    fn at_permille(&self, permille: u128) -> u64 {
        let samples: u64 = self.counts.iter().sum();
        let mut below = 0;
        for (bits, count) in self.counts.iter().enumerate() {
            below += u128::from(*count);
            if *count > 0 && below * 1000 >= u128::from(samples) * permille {
                return largest(bits);
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The largest value of so many bits.
fn largest(bits: usize) -> u64 {
    u64::MAX.checked_shr(u64::BITS - bits as u32).unwrap_or(0)
}

/// Histograms below each other, as text.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    rows: Vec<(String, Histogram)>,
}

impl AsciiChart {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.rows.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.rows {
            writeln!(f, "{name}")?;
            for (bits, count) in histogram.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
                writeln!(f, "{:>22} {count}", largest(bits))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_largest_values_of_their_bits() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(5, 90);
        histogram.record_n(1000, 9);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p50, stats.p90), (100, 7, 7, 7));
        assert_eq!((stats.p99, stats.p99_9), (1023, u64::MAX));
        let chart = AsciiChart::new().add("sizes", histogram).to_string();
        assert_eq!(chart.lines().map(str::trim_start).nth(1), Some("7 90"));
    }
}
