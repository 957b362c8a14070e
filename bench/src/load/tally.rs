//! What a group of clients has seen in one run.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency told apart; longer ones count as this.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

pub(crate) struct Tally {
    /// Calls answered, or events received by watchers.
    pub(crate) operations: u64,
    /// Calls that failed, or answered with less than a right answer has.
    pub(crate) failed: u64,
    /// Fixed rate: calls that were due and not even sent when the run ended. Their latency so far
    /// is in the histogram.
    pub(crate) unsent: u64,
    /// Streams that the server confirmed.
    pub(crate) opened: u64,
    /// Bytes of response messages.
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    latency: Histogram<u64>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Latencies {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
            .expect("the bounds and the precision are valid");
        Self {
            operations: 0,
            failed: 0,
            unsent: 0,
            opened: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            latency,
        }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos.max(1));
    }

    /// Adds what another stretch of the same run counted; not its time.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.operations += other.operations;
        self.failed += other.failed;
        self.unsent += other.unsent;
        self.bytes += other.bytes;
        self.latency.add(&other.latency).expect("both histograms have the same bounds");
    }

    pub(crate) fn per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.operations as f64 / seconds } else { 0.0 }
    }

    pub(crate) fn latencies(&self) -> Latencies {
        let at = |percentile| self.latency.value_at_percentile(percentile) as f64 / 1e3;
        Latencies {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: self.latency.max() as f64 / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut tally = Tally::new();
        (1..=10_000).for_each(|micros| tally.record(Duration::from_micros(micros)));
        let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.001;
        let latencies = tally.latencies();
        assert!(near(latencies.p50, 5_000.0), "{latencies:?}");
        assert!(near(latencies.p99, 9_900.0), "{latencies:?}");
        assert!(near(latencies.p999, 9_990.0), "{latencies:?}");
        assert!(near(latencies.max, 10_000.0), "{latencies:?}");
    }

    #[test]
    fn extremes_are_kept_in_bounds() {
        let mut tally = Tally::new();
        tally.record(Duration::ZERO);
        tally.record(Duration::from_secs(1_000_000));
        assert!(tally.latencies().max >= LATENCY_NS_MAX as f64 / 1e3);
    }

    #[test]
    fn a_rate_needs_time() {
        let mut tally = Tally::new();
        tally.operations = 500;
        assert_eq!(tally.per_second(), 0.0);
        tally.elapsed = Duration::from_millis(250);
        assert_eq!(tally.per_second(), 2000.0);
    }
}
