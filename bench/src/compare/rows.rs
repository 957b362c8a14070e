//! The rows of a comparison, what each one states, and what kvd owes in it.

use serde::Serialize;

/// One load on fresh servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Row {
    /// Put 256 B, 1 client
    #[value(name = "put-1")]
    Put1,
    /// Put 256 B, 100 clients over 10 connections
    #[value(name = "put-100")]
    Put100,
    /// Put 256 B, 1000 clients over 100 connections
    #[value(name = "put-1000")]
    Put1000,
    /// Linearizable read of one key, 100 clients
    Range,
    /// Read of 1000 keys with 256 B each
    List,
    /// 100 watchers of every put: as many puts as possible, then 500 a second
    Watch,
    /// Every fsync takes 20 ms more: puts, and reads meanwhile
    SlowDisk,
    /// 1M keys with 256 B: memory, restart, snapshot
    Keys,
    /// Memory of an empty server
    Idle,
    /// Put 256 B to several members, 1 client at the leader
    #[value(name = "cluster-put-1")]
    ClusterPut1,
    /// The same with 100 clients
    #[value(name = "cluster-put-100")]
    ClusterPut100,
    /// The same with 100 clients at a follower
    #[value(name = "follower-put-100")]
    FollowerPut100,
    /// Linearizable read of one key, 100 clients at the leader of several members
    ClusterRange,
    /// The same at a follower
    FollowerRange,
    /// Every fsync of every member takes 20 ms more: put, 1 client
    ClusterSlowDisk,
}

impl Row {
    /// Whether it takes several members.
    pub(crate) fn is_of_cluster(self) -> bool {
        use Row::{
            ClusterPut1, ClusterPut100, ClusterRange, ClusterSlowDisk, FollowerPut100,
            FollowerRange,
        };
        matches!(
            self,
            ClusterPut1
                | ClusterPut100
                | FollowerPut100
                | ClusterRange
                | FollowerRange
                | ClusterSlowDisk
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    PerSecond,
    Micros,
    Seconds,
    Bytes,
    Megabytes,
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Better {
    More,
    Less,
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Floor {
    /// Of kvd's figure to etcd's.
    Ratio(f64),
    /// Of kvd's figure.
    Value(f64),
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Metric {
    pub(crate) row: Row,
    pub(crate) id: &'static str,
    pub(crate) label: &'static str,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    pub(crate) floor: Option<Floor>,
    /// The figure aimed at, in the metric's unit.
    pub(crate) budget: Option<f64>,
}

impl Metric {
    const fn more(row: Row, id: &'static str, label: &'static str, unit: Unit) -> Self {
        Self { row, id, label, unit, better: Better::More, floor: None, budget: None }
    }

    const fn less(row: Row, id: &'static str, label: &'static str, unit: Unit) -> Self {
        Self { row, id, label, unit, better: Better::Less, floor: None, budget: None }
    }

    const fn ratio(self, floor: f64) -> Self {
        Self { floor: Some(Floor::Ratio(floor)), ..self }
    }

    const fn value(self, floor: f64) -> Self {
        Self { floor: Some(Floor::Value(floor)), ..self }
    }

    /// Of another size than the floor and the budget are for.
    pub(crate) const fn unjudged(self) -> Self {
        Self { floor: None, budget: None, ..self }
    }

    const fn budget(self, budget: f64) -> Self {
        Self { budget: Some(budget), ..self }
    }
}

use Unit::{Bytes, Count, Megabytes, Micros, PerSecond, Seconds};

/// Everything a comparison states, in the table's order.
pub(crate) const METRICS: &[Metric] = &[
    Metric::more(Row::Put1, "rate", "put, 1 client", PerSecond).ratio(1.2),
    Metric::less(Row::Put1, "p50", "p50", Micros),
    Metric::less(Row::Put1, "p99", "p99", Micros),
    Metric::less(Row::Put1, "cpu", "server CPU per put", Micros),
    Metric::less(Row::Put1, "bytes", "device bytes per put", Bytes).ratio(1.0).budget(4300.0),
    Metric::less(Row::Put1, "flushes", "flushes per put", Count),
    Metric::more(Row::Put100, "rate", "put, 100 clients", PerSecond).ratio(2.0).budget(45_000.0),
    Metric::less(Row::Put100, "p50", "p50", Micros),
    Metric::less(Row::Put100, "p99", "p99", Micros),
    Metric::less(Row::Put100, "cpu", "server CPU per put", Micros).ratio(0.4).budget(20.0),
    Metric::less(Row::Put100, "bytes", "device bytes per put", Bytes).ratio(1.0).budget(600.0),
    Metric::less(Row::Put100, "flushes", "flushes per put", Count),
    Metric::less(Row::Put100, "rss", "RSS after the run", Megabytes),
    Metric::more(Row::Put1000, "rate", "put, 1000 clients", PerSecond),
    Metric::less(Row::Put1000, "p99", "p99", Micros),
    Metric::less(Row::Put1000, "cpu", "server CPU per put", Micros),
    Metric::more(Row::Range, "rate", "range of 1 key, 100 clients", PerSecond)
        .ratio(1.5)
        .budget(65_000.0),
    Metric::less(Row::Range, "p50", "p50", Micros),
    Metric::less(Row::Range, "p99", "p99", Micros),
    Metric::less(Row::Range, "cpu", "server CPU per range", Micros).ratio(0.5).budget(14.0),
    Metric::more(Row::List, "rate", "list of 1000 x 256 B, 10 clients", PerSecond).ratio(3.0),
    Metric::less(Row::List, "p99", "p99", Micros),
    Metric::less(Row::List, "cpu", "server CPU per list", Micros).budget(1000.0),
    Metric::more(Row::Watch, "rate", "100 watchers, 10 writers: events", PerSecond),
    Metric::less(Row::Watch, "cpu", "server CPU per event", Micros).budget(1.0),
    Metric::less(Row::Watch, "paced-cpu", "at 500 puts/s: server CPU per event", Micros),
    Metric::less(Row::Watch, "p50", "put sent to event received, p50", Micros),
    Metric::less(Row::Watch, "p99", "p99", Micros),
    Metric::more(Row::SlowDisk, "rate-1", "fsync + 20 ms: put, 1 client", PerSecond).budget(45.0),
    Metric::more(Row::SlowDisk, "rate-100", "put, 100 clients", PerSecond).budget(3000.0),
    Metric::less(Row::SlowDisk, "read-p99", "p99 of a read meanwhile", Micros).budget(5000.0),
    Metric::less(Row::Keys, "rss", "1M keys x 256 B: RSS", Megabytes).ratio(0.8).budget(260.0),
    Metric::less(Row::Keys, "restart", "SIGKILL, restart to first read", Seconds).budget(1.0),
    Metric::less(Row::Keys, "rss-restarted", "RSS after the restart", Megabytes),
    Metric::less(Row::Keys, "snapshot", "snapshot file", Seconds).budget(1.5),
    Metric::less(Row::Idle, "rss", "idle RSS", Megabytes).value(15.0).budget(10.0),
    Metric::more(Row::ClusterPut1, "rate", "put, 1 client", PerSecond),
    Metric::less(Row::ClusterPut1, "p50", "p50", Micros).ratio(1.0),
    Metric::less(Row::ClusterPut1, "p99", "p99", Micros),
    Metric::less(Row::ClusterPut1, "cpu", "CPU of all per put", Micros),
    Metric::more(Row::ClusterPut100, "rate", "put, 100 clients", PerSecond).ratio(1.5),
    Metric::less(Row::ClusterPut100, "p50", "p50", Micros),
    Metric::less(Row::ClusterPut100, "p99", "p99", Micros).ratio(1.0),
    Metric::less(Row::ClusterPut100, "cpu", "CPU of all per put", Micros).ratio(0.5),
    Metric::less(Row::ClusterPut100, "rss", "RSS of all after the run", Megabytes),
    Metric::more(Row::FollowerPut100, "rate", "at a follower: put, 100 clients", PerSecond)
        .ratio(1.5),
    Metric::less(Row::FollowerPut100, "p50", "p50", Micros),
    Metric::less(Row::FollowerPut100, "p99", "p99", Micros).ratio(1.0),
    Metric::less(Row::FollowerPut100, "cpu", "CPU of all per put", Micros).ratio(0.5),
    Metric::more(Row::ClusterRange, "rate", "range of 1 key, 100 clients", PerSecond).ratio(1.5),
    Metric::less(Row::ClusterRange, "p99", "p99", Micros),
    Metric::less(Row::ClusterRange, "cpu", "CPU of all per range", Micros),
    Metric::more(Row::FollowerRange, "rate", "at a follower: range of 1 key", PerSecond).ratio(1.5),
    Metric::less(Row::FollowerRange, "p99", "p99", Micros),
    Metric::less(Row::FollowerRange, "cpu", "CPU of all per range", Micros),
    Metric::more(Row::ClusterSlowDisk, "rate", "fsync + 20 ms: put, 1 client", PerSecond)
        .ratio(1.2),
    Metric::less(Row::ClusterSlowDisk, "p50", "p50", Micros),
    Metric::less(Row::ClusterSlowDisk, "p99", "p99", Micros),
];

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_row_states_something_and_no_metric_is_named_twice() {
        for row in Row::value_variants() {
            assert!(METRICS.iter().any(|metric| metric.row == *row), "{row:?}");
        }
        for (place, metric) in METRICS.iter().enumerate() {
            let twin = |other: &Metric| other.row == metric.row && other.id == metric.id;
            assert!(!METRICS[place + 1..].iter().any(twin), "{metric:?}");
        }
    }
}
