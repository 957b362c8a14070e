//! A workload with its sizes, made into groups of clients against one server, and measured.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::load::{Engine, GroupSpec, Latencies, Limit, Pace, Tally};
use crate::measure::{Mark, Probe, Process};
use crate::workload::{KeySpace, List, Mixed, Order, Put, Range, Txn, Values, Watchers, Workload};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Put a key
    Put,
    /// Read one key
    Range,
    /// Read all keys of the key space in one answer
    List,
    /// Compare a key's mod revision, then put it, as Kubernetes writes
    Txn,
    /// Put while watchers are told of every put; counts events
    Watch,
    /// Half updates by txn, the rest reads of one key and now and then a page of 500
    Mixed,
}

impl Kind {
    /// Apart from one another, so that a list lists what was filled in for it.
    pub(crate) fn prefix(self) -> String {
        format!("/registry/{self:?}/").to_lowercase()
    }

    fn reads(self) -> bool {
        matches!(self, Self::Range | Self::List)
    }
}

/// What one run does.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    pub(crate) clients: u32,
    pub(crate) connections: u32,
    /// Calls a second; a closed loop without.
    pub(crate) rate: Option<f64>,
    pub(crate) keys: u32,
    pub(crate) order: Order,
    pub(crate) value_bytes: usize,
    pub(crate) compressible: bool,
    pub(crate) serializable: bool,
    /// Only of `Kind::Watch`.
    pub(crate) watchers: u32,
    pub(crate) prefix: String,
    /// Put every key before reading.
    pub(crate) fill: bool,
}

/// A server under load.
pub(crate) struct Load {
    engine: Engine,
    watchers: Option<(usize, u64)>,
}

/// One run's result. Costs are per operation, in microseconds, bytes and flushes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) operations: u64,
    pub(crate) per_second: f64,
    pub(crate) latency_us: Latencies,
    pub(crate) failed: u64,
    pub(crate) unsent: u64,
    pub(crate) reply_bytes: f64,
    /// The load generator's own CPU.
    pub(crate) generator_cpu_us: f64,
    pub(crate) server_cpu_us: Option<f64>,
    pub(crate) resident_mb: Option<f64>,
    pub(crate) resident_peak_mb: Option<f64>,
    pub(crate) device_bytes: Option<f64>,
    pub(crate) flushes: Option<f64>,
}

impl Scenario {
    fn key_space(&self, order: Order) -> KeySpace {
        KeySpace::new(&self.prefix, self.keys, order)
    }

    fn values(&self) -> Values {
        Values::new(self.value_bytes, self.compressible)
    }

    fn workload(&self) -> Box<dyn Workload> {
        let keys = self.key_space(self.order);
        let (values, bytes) = (self.values(), self.value_bytes);
        match self.kind {
            Kind::Put => Box::new(Put::new(keys, values)),
            Kind::Watch => Box::new(Put::new(keys, values).stamped()),
            Kind::Range => Box::new(Range::new(keys, self.serializable, bytes)),
            Kind::List => Box::new(List::new(&self.prefix, self.serializable, self.keys, bytes)),
            Kind::Txn => Box::new(Txn::new(keys, self.keys, values, self.clients)),
            Kind::Mixed => Box::new(Mixed::new(self.keys, self.clients, self.compressible)),
        }
    }

    /// The clients of this scenario, to run beside others.
    pub(crate) fn group(&self) -> GroupSpec {
        GroupSpec {
            workload: self.workload(),
            clients: self.clients,
            connections: self.connections.min(self.clients),
            pace: self.rate.map_or(Pace::Closed, Pace::Rate),
        }
    }

    /// Puts every key once.
    pub(crate) fn fill(&self, address: SocketAddr) -> Result<()> {
        let mut engine = Engine::new(address)?;
        let keys = self.key_space(Order::Sequential);
        engine.add(GroupSpec {
            workload: Box::new(Put::new(keys, self.values())),
            clients: 100,
            connections: 10,
            pace: Pace::Closed,
        })?;
        let tallies = engine.run(Limit::Calls(u64::from(self.keys)))?;
        let failed = tallies[0].failed;
        ensure!(failed == 0, "{failed} of {} puts failed while keys were filled in", self.keys);
        Ok(())
    }

    /// Connects everything, with keys to read and watchers in place.
    pub(crate) fn prepare(&self, address: SocketAddr) -> Result<Load> {
        if self.fill && self.kind.reads() {
            self.fill(address)?;
        }
        let mut engine = Engine::new(address)?;
        engine.add(self.group())?;
        let watchers = match self.kind {
            Kind::Watch => Some((
                engine.add(GroupSpec {
                    workload: Box::new(Watchers::new(&self.prefix)),
                    clients: self.watchers,
                    connections: self.watchers.min(10),
                    pace: Pace::Once,
                })?,
                u64::from(self.watchers),
            )),
            _ => None,
        };
        engine.open_streams()?;
        Ok(Load { engine, watchers })
    }
}

impl Load {
    /// Runs for `time`; what is counted are events if there are watchers, else calls.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Tally> {
        let mut tallies = self.engine.run(Limit::Time(time))?;
        let Some((group, watchers)) = self.watchers else { return Ok(tallies.swap_remove(0)) };
        let mut events = tallies.swap_remove(group);
        let puts = &tallies[0];
        self.engine.settle(group, puts.operations * watchers, &mut events)?;
        events.failed += puts.failed;
        events.unsent += puts.unsent;
        Ok(events)
    }

    /// A measured run. The device's part is `Measured::wrote`, when all is said and done.
    pub(crate) fn measure(&mut self, time: Duration, probe: Option<&Probe>) -> Result<Measured> {
        let mark = probe.map(Probe::mark).transpose()?;
        let generator = Process::this();
        let generator_before = generator.cpu()?;
        let tally = self.run(time)?;
        let generator_cpu = generator.cpu()? - generator_before;
        let mut measured = Measured::new(&tally, generator_cpu);
        if let Some((probe, mark)) = probe.zip(mark) {
            measured.add_costs(probe, &mark)?;
        }
        Ok(measured)
    }
}

impl Measured {
    fn new(tally: &Tally, generator_cpu: Duration) -> Self {
        let operations = tally.operations.max(1) as f64;
        Self {
            operations: tally.operations,
            per_second: tally.per_second(),
            latency_us: tally.latencies(),
            failed: tally.failed,
            unsent: tally.unsent,
            reply_bytes: tally.bytes as f64 / operations,
            generator_cpu_us: generator_cpu.as_secs_f64() * 1e6 / operations,
            server_cpu_us: None,
            resident_mb: None,
            resident_peak_mb: None,
            device_bytes: None,
            flushes: None,
        }
    }

    fn add_costs(&mut self, probe: &Probe, mark: &Mark) -> Result<()> {
        let operations = self.operations.max(1) as f64;
        let cpu = probe.cpu_since(mark)?;
        self.server_cpu_us = Some(cpu.as_secs_f64() * 1e6 / operations);
        let memory = probe.memory()?;
        self.resident_mb = Some(memory.resident as f64 / 1e6);
        self.resident_peak_mb = Some(memory.peak as f64 / 1e6);
        let written = probe.written_since(mark)?;
        self.device_bytes = written.map(|written| written.bytes as f64 / operations);
        self.flushes = written.map(|written| written.flushes as f64 / operations);
        Ok(())
    }
}

/// The address in `HOST:PORT` or `http://HOST:PORT`.
pub(crate) fn address(endpoint: &str) -> Result<SocketAddr> {
    let bare = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let mut found = bare
        .to_socket_addrs()
        .with_context(|| format!("'{endpoint}' is not HOST:PORT or http://HOST:PORT"))?;
    found.next().with_context(|| format!("'{bare}' has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let wanted = SocketAddr::from(([127, 0, 0, 1], 2379));
        assert_eq!(address("127.0.0.1:2379").unwrap(), wanted);
        assert_eq!(address("http://127.0.0.1:2379").unwrap(), wanted);
        assert!(address("https://127.0.0.1").is_err());
    }

    #[test]
    fn costs_are_per_operation() {
        let mut tally = Tally::new();
        tally.operations = 200;
        tally.bytes = 1000;
        tally.elapsed = Duration::from_secs(2);
        let measured = Measured::new(&tally, Duration::from_millis(1));
        assert_eq!(measured.per_second, 100.0);
        assert_eq!(measured.reply_bytes, 5.0);
        assert_eq!(measured.generator_cpu_us, 5.0);
    }
}
