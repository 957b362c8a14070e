//! One server under one load, from an empty directory to figures.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Node, NodeOptions, Target};

use super::rows::Row;
use crate::admin;
use crate::load::{Engine, Limit};
use crate::measure::{Mark, Probe, Process};
use crate::print;
use crate::scenario::{Kind, Scenario, address};
use crate::workload::Order;

/// Delays the return of each sync by 20 ms. `-D` keeps the server our own child.
pub(super) const SLOW_DISK: [&str; 10] = [
    "strace",
    "-D",
    "-f",
    "-q",
    "--seccomp-bpf",
    "-e",
    "trace=fdatasync,fsync",
    "-e",
    "inject=fdatasync,fsync:delay_exit=20000",
    "-o",
];
const RESTART_WITHIN: Duration = Duration::from_secs(60);

/// How long and how large the runs are.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    pub(super) keys: u32,
    /// For memory to come to rest after a load.
    pub(super) rest: Duration,
    pub(super) idle: Duration,
}

impl Size {
    pub(super) const FULL: Self = Self {
        warm_up: Duration::from_secs(1),
        measured: Duration::from_secs(5),
        keys: 1_000_000,
        rest: Duration::from_secs(5),
        idle: Duration::from_secs(10),
    };
    pub(super) const QUICK: Self = Self {
        warm_up: Duration::from_millis(500),
        measured: Duration::from_secs(2),
        keys: 100_000,
        rest: Duration::from_secs(2),
        idle: Duration::from_secs(4),
    };
}

/// A server to be started again and again.
pub(super) struct Contender<'a> {
    pub(super) target: Target,
    pub(super) program: &'a Path,
    /// Parent of its data directories.
    pub(super) parent: &'a Path,
}

/// What a cell found: a metric's id and its figure.
pub(super) type Figures = Vec<(&'static str, f64)>;

pub(super) fn run(row: Row, contender: &Contender<'_>, size: &Size) -> Result<Figures> {
    let put = |clients, connections| Scenario { clients, connections, ..base(Kind::Put) };
    let wrapper = match row {
        Row::SlowDisk => [&SLOW_DISK[..], &["/dev/null"]].concat(),
        _ => Vec::new(),
    };
    let mut server = contender.start(&wrapper)?;
    let figures = match row {
        Row::Put1 => loaded(&put(1, 1), &mut server, size),
        Row::Put100 => loaded(&put(100, 10), &mut server, size),
        Row::Put1000 => loaded(&put(1000, 100), &mut server, size),
        Row::Range => loaded(&Scenario { keys: 10_000, ..base(Kind::Range) }, &mut server, size),
        Row::List => {
            let list = Scenario { keys: 1000, clients: 10, ..base(Kind::List) };
            loaded(&list, &mut server, size)
        }
        Row::Watch => watch(&server, size),
        Row::SlowDisk => slow_disk(&server, size),
        Row::Keys => keys(&mut server, size),
        row if row.is_of_cluster() => unreachable!("{row:?} is a row of several members"),
        _ => {
            std::thread::sleep(size.idle);
            Ok(vec![("rss", resident_mb(&server.node)?)])
        }
    };
    // The log goes with the directory.
    figures.inspect_err(|_| print::progress(&server.node.log_tail()))
}

pub(super) fn base(kind: Kind) -> Scenario {
    Scenario {
        kind,
        clients: 100,
        connections: 10,
        rate: None,
        keys: 100_000,
        order: Order::Random,
        value_bytes: 256,
        compressible: false,
        serializable: false,
        watchers: 100,
        prefix: kind.prefix(),
        fill: true,
    }
}

/// A running server; its directory goes with it.
struct Server {
    node: Node,
    dir: tempfile::TempDir,
}

impl Contender<'_> {
    fn start(&self, wrapper: &[&str]) -> Result<Server> {
        let dir = tempfile::Builder::new().prefix("kvbench-").tempdir_in(self.parent)?;
        let mut options = NodeOptions::new(self.target).dir(dir.path());
        options.program = Some(PathBuf::from(self.program));
        options.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        Ok(Server { node: Node::start(options)?, dir })
    }

    pub(super) fn version(&self) -> Result<String> {
        admin::version(&self.start(&[])?.node.endpoint())
    }
}

impl Server {
    fn probe(&self) -> Result<Probe> {
        Probe::new(vec![process(&self.node)?], Some(&self.node.data_dir()))
    }

    fn address(&self) -> Result<SocketAddr> {
        address(&self.node.endpoint())
    }

    fn check(&self, failed: u64) -> Result<()> {
        check(failed, &self.node.endpoint())
    }
}

/// Ratios of calls that failed mean nothing.
fn check(failed: u64, endpoint: &str) -> Result<()> {
    ensure!(failed == 0, "{failed} calls failed: {}", admin::complaint(endpoint));
    Ok(())
}

fn process(node: &Node) -> Result<Process> {
    Ok(Process::new(node.pid().context("the server has ended")?))
}

fn resident_mb(node: &Node) -> Result<f64> {
    Ok(process(node)?.memory()?.resident as f64 / 1e6)
}

/// What one workload was, and what it cost.
pub(super) struct Loaded {
    pub(super) figures: Figures,
    /// Before the first call, and how many came then.
    mark: Mark,
    operations: u64,
}

/// One workload at `endpoint`; `probe` sees all processes that it keeps busy.
pub(super) fn load(
    scenario: &Scenario,
    endpoint: &str,
    probe: &Probe,
    size: &Size,
) -> Result<Loaded> {
    let mut load = scenario.prepare(address(endpoint)?)?;
    let mark = probe.mark()?;
    let warm = load.run(size.warm_up)?;
    let measured = load.measure(size.measured, Some(probe))?;
    check(warm.failed + measured.failed, endpoint)?;
    let mut figures = vec![
        ("rate", measured.per_second),
        ("p50", measured.latency_us.p50),
        ("p99", measured.latency_us.p99),
    ];
    figures.extend(measured.server_cpu_us.map(|cpu| ("cpu", cpu)));
    figures.extend(measured.resident_mb.map(|resident| ("rss", resident)));
    Ok(Loaded { figures, mark, operations: warm.operations + measured.operations })
}

/// One workload on a fresh server. The device's counters run from the first call to the end of the
/// stopped server, so that work put off until then is charged to the calls that caused it.
fn loaded(scenario: &Scenario, server: &mut Server, size: &Size) -> Result<Figures> {
    let probe = server.probe()?;
    let Loaded { mut figures, mark, operations } =
        load(scenario, &server.node.endpoint(), &probe, size)?;
    server.node.stop()?;
    if let Some(written) = probe.written_since(&mark)? {
        figures.push(("bytes", written.bytes as f64 / operations as f64));
        figures.push(("flushes", written.flushes as f64 / operations as f64));
    }
    Ok(figures)
}

fn watch(server: &Server, size: &Size) -> Result<Figures> {
    let probe = server.probe()?;
    let measure = |rate| {
        let writers = Scenario { rate, clients: 10, connections: 2, ..base(Kind::Watch) };
        let mut load = Scenario { keys: 1000, ..writers }.prepare(server.address()?)?;
        load.run(size.warm_up)?;
        let measured = load.measure(size.measured, Some(&probe))?;
        server.check(measured.failed)?;
        Ok::<_, anyhow::Error>(measured)
    };
    let (fast, paced) = (measure(None)?, measure(Some(500.0))?);
    let mut figures = vec![
        ("rate", fast.per_second),
        ("p50", paced.latency_us.p50),
        ("p99", paced.latency_us.p99),
    ];
    figures.extend(fast.server_cpu_us.map(|cpu| ("cpu", cpu)));
    figures.extend(paced.server_cpu_us.map(|cpu| ("paced-cpu", cpu)));
    Ok(figures)
}

fn slow_disk(server: &Server, size: &Size) -> Result<Figures> {
    let address = server.address()?;
    let mut one = Scenario { clients: 1, connections: 1, ..base(Kind::Put) }.prepare(address)?;
    one.run(size.warm_up)?;
    let one = one.run(size.measured)?;

    let reads = Scenario { keys: 100, clients: 10, connections: 2, ..base(Kind::Range) };
    let reads = Scenario { rate: Some(200.0), ..reads };
    reads.fill(address)?;
    let mut engine = Engine::new(address)?;
    let puts = engine.add(base(Kind::Put).group())?;
    let reads = engine.add(reads.group())?;
    engine.run(Limit::Time(size.warm_up))?;
    let tallies = engine.run(Limit::Time(size.measured))?;
    server.check(tallies.iter().map(|tally| tally.failed).sum::<u64>() + one.failed)?;
    Ok(vec![
        ("rate-1", one.per_second()),
        ("rate-100", tallies[puts].per_second()),
        ("read-p99", tallies[reads].latencies().p99),
    ])
}

fn keys(server: &mut Server, size: &Size) -> Result<Figures> {
    let endpoint = server.node.endpoint();
    Scenario { keys: size.keys, ..base(Kind::Put) }.fill(server.address()?)?;
    std::thread::sleep(size.rest);
    let mut figures = vec![("rss", resident_mb(&server.node)?)];

    server.node.kill()?;
    let start = Instant::now();
    server.node.spawn()?;
    admin::first_read(&endpoint, RESTART_WITHIN)?;
    figures.push(("restart", start.elapsed().as_secs_f64()));
    std::thread::sleep(size.rest);
    figures.push(("rss-restarted", resident_mb(&server.node)?));

    let file = server.dir.path().join("snapshot.db");
    figures.push(("snapshot", admin::snapshot(&endpoint, &file)?.as_secs_f64()));
    Ok(figures)
}
