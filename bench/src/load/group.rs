//! Clients that share a workload and a pace.

use std::time::{Duration, Instant};

use super::Tally;
use crate::h2::{Call, Connection, End, Sink};
use crate::workload::Workload;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    Closed,
    /// Calls a second, from all clients together.
    Rate(f64),
    Once,
}

pub(crate) struct GroupSpec {
    pub(crate) workload: Box<dyn Workload>,
    pub(crate) clients: u32,
    pub(crate) connections: u32,
    pub(crate) pace: Pace,
}

pub(super) struct Group {
    workload: Box<dyn Workload>,
    pub(super) pace: Pace,
    /// Where this group's connections start in the engine's list, and how many they are.
    first: usize,
    connections: usize,
    idle: Vec<u32>,
    pub(super) in_flight: usize,
    /// Calls a run may still start.
    pub(super) budget: u64,
    /// Fixed rate: when the next call is due.
    pub(super) due: Instant,
    pub(super) answered: Instant,
    pub(super) tally: Tally,
    /// Encoded request, kept for its allocation.
    message: Vec<u8>,
}

impl Group {
    pub(super) fn new(spec: GroupSpec, first: usize) -> Self {
        let now = Instant::now();
        Self {
            workload: spec.workload,
            pace: spec.pace,
            first,
            connections: spec.connections as usize,
            // Popped from the back: the first calls go round all connections.
            idle: (0..spec.clients).rev().collect(),
            in_flight: 0,
            budget: 0,
            due: now,
            answered: now,
            tally: Tally::new(),
            message: Vec::new(),
        }
    }

    /// Starts a run in which this group may make `budget` calls.
    pub(super) fn begin(&mut self, now: Instant, budget: u64) {
        self.tally = Tally::new();
        self.budget = budget;
        self.due = now;
        self.answered = now;
    }

    /// Whether calls are in flight that will be answered without more of ours.
    pub(super) fn is_busy(&self) -> bool {
        self.pace != Pace::Once && self.in_flight > 0
    }

    /// Starts every call that is due and has an idle client; notes the connections it wrote to.
    pub(super) fn issue(
        &mut self,
        now: Instant,
        connections: &mut [Connection],
        dirty: &mut Vec<usize>,
    ) {
        let interval = match self.pace {
            Pace::Rate(rate) => Some(Duration::from_secs_f64(1.0 / rate)),
            Pace::Closed | Pace::Once => None,
        };
        while self.budget > 0 && (interval.is_none() || self.due <= now) {
            let Some(client) = self.idle.pop() else { return };
            let started = if interval.is_some() { self.due } else { now };
            self.due += interval.unwrap_or_default();
            self.budget -= 1;
            self.in_flight += 1;
            self.message.clear();
            let request = self.workload.request(client, &mut self.message);
            let place = self.first + client as usize % self.connections;
            connections[place].call(&Call {
                client,
                started,
                method: request.method,
                message: &self.message,
                collects: request.collects,
                reply_bytes_min: request.reply_bytes_min,
            });
            if dirty.last() != Some(&place) {
                dirty.push(place);
            }
        }
    }

    /// Ends a run at `end`: calls that fell due by then and found no client count as they stand.
    pub(super) fn finish(&mut self, end: Instant) {
        if let Pace::Rate(rate) = self.pace {
            while self.budget > 0 && self.due < end {
                self.tally.record(end - self.due);
                self.tally.unsent += 1;
                self.due += Duration::from_secs_f64(1.0 / rate);
            }
        }
        self.budget = 0;
    }
}

impl Sink for Group {
    fn message(&mut self, client: u32, message: &[u8]) {
        self.workload.reply(client, message, &mut self.tally);
    }

    fn end(&mut self, end: End) {
        self.in_flight -= 1;
        self.idle.push(end.client);
        self.tally.bytes += end.bytes;
        self.answered = Instant::now();
        if end.bytes >= end.bytes_min.max(1) {
            self.tally.operations += 1;
            self.tally.record(self.answered - end.started);
        } else {
            self.tally.failed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{KeySpace, Order, Put, Values};

    #[test]
    fn calls_that_were_due_and_never_sent_are_charged() {
        let keys = KeySpace::new("k", 1, Order::Sequential);
        let workload = Box::new(Put::new(keys, Values::new(1, true)));
        let pace = Pace::Rate(1000.0);
        let mut group = Group::new(GroupSpec { workload, clients: 1, connections: 1, pace }, 0);
        let start = Instant::now();
        group.begin(start, u64::MAX);
        // The one client is busy with a call that is never answered.
        group.idle.clear();
        group.issue(start + Duration::from_millis(50), &mut [], &mut Vec::new());
        group.finish(start + Duration::from_millis(100));
        assert_eq!(group.tally.unsent, 100);
        let latencies = group.tally.latencies();
        assert!((latencies.max - 100_000.0).abs() < 1000.0, "{latencies:?}");
        assert!((latencies.p50 - 50_000.0).abs() < 2000.0, "{latencies:?}");
    }
}
