//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::compare::Row;
use crate::scenario::{Kind, Scenario};
use crate::workload::Order;

const EXAMPLES: &str = "\
Examples:
  kvbench run put --clients 1 --duration 5s
  kvbench run range --clients 100 --rate 20000        latencies at a fixed rate
  kvbench run watch --watchers 100 --rate 500
  kvbench run put --pid $(pidof kvd) --data-dir default.kvd
  kvbench compare --kvd target/release/kvd --etcd target/go/etcd --markdown result.md
  kvbench compare --kvd target/release/kvd --etcd target/go/etcd --only put-100,range --quick
  kvbench compare --kvd target/release/kvd --etcd target/go/etcd --members 3";

/// Load for kvd, etcd and anything else that speaks etcd's v3 API
#[derive(Parser)]
#[command(name = "kvbench", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Puts one workload on a running server
    #[command(after_help = EXAMPLES)]
    Run(Run),
    /// Runs kvd and etcd in turn under the same loads and prints the ratios
    #[command(after_help = EXAMPLES)]
    Compare(Compare),
}

#[derive(Args)]
pub(crate) struct Run {
    /// What the clients do
    #[arg(value_enum)]
    pub(crate) workload: Kind,
    #[arg(long, default_value = "127.0.0.1:2379", help_heading = "Server")]
    pub(crate) endpoint: String,
    /// Server process, to report its CPU and memory
    #[arg(long, help_heading = "Server")]
    pub(crate) pid: Option<u32>,
    /// Server's data directory, to report what its device writes; needs --pid
    #[arg(long, requires = "pid", help_heading = "Server")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Clients, each with one call at a time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Connections the clients share
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Calls a second from all clients together, due whether or not earlier ones are answered;
    /// without it each client calls as fast as it is answered
    #[arg(long, value_parser = parse_rate)]
    rate: Option<f64>,
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Load before the measurement
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub(crate) warm_up: Duration,
    /// Size of the key space [default: 1000 for list and watch, else 100000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    keys: Option<u32>,
    #[arg(long, value_enum, default_value = "random")]
    order: Order,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    value_size: usize,
    /// Values of one repeated byte instead of random ones
    #[arg(long)]
    compressible: bool,
    /// Reads need not be linearizable
    #[arg(long)]
    serializable: bool,
    /// Watchers of every put, each with a stream of its own; for watch
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    watchers: u32,
    /// What keys start with [default: /registry/ and the workload]; mixed has its own
    #[arg(long)]
    prefix: Option<String>,
    /// The keys to read are there already
    #[arg(long)]
    no_fill: bool,
    /// Prints JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Compare {
    /// kvd's binary
    #[arg(long)]
    pub(crate) kvd: PathBuf,
    /// etcd's binary
    #[arg(long)]
    pub(crate) etcd: PathBuf,
    /// Members of each cluster; with more than one, other rows
    #[arg(long, default_value_t = 1)]
    pub(crate) members: usize,
    /// Only these rows
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Row>,
    /// Short runs, each server once, a tenth of the keys: for a first look, not for conclusions
    #[arg(long)]
    pub(crate) quick: bool,
    /// Parent of the data directories; decides the device that is measured
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(crate) dir: PathBuf,
    /// Also writes the result here
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Also writes the table here
    #[arg(long)]
    pub(crate) markdown: Option<PathBuf>,
}

impl Run {
    pub(crate) fn scenario(&self) -> Scenario {
        let small = matches!(self.workload, Kind::List | Kind::Watch);
        Scenario {
            kind: self.workload,
            clients: self.clients,
            connections: self.connections,
            rate: self.rate,
            keys: self.keys.unwrap_or(if small { 1000 } else { 100_000 }),
            order: self.order,
            value_bytes: self.value_size,
            compressible: self.compressible,
            serializable: self.serializable,
            watchers: self.watchers,
            prefix: self.prefix.clone().unwrap_or_else(|| self.workload.prefix()),
            fill: !self.no_fill,
        }
    }
}

/// A number with `ms`, `s` or `m`; seconds without.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("'{number}' is not a number"))?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "s" | "" => number,
        "m" => number * 60.0,
        _ => return Err(format!("unknown unit '{unit}': ms, s or m")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=1e7).contains(&rate) => Ok(rate),
        _ => Err("calls a second, between 0.01 and 10000000".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        assert!(parse_duration("3h").is_err());
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("s").is_err());
    }

    #[test]
    fn rates() {
        assert_eq!(parse_rate("20000"), Ok(20_000.0));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("NaN").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["kvbench", "run", "list", "--clients", "7"]);
        let Command::Run(run) = cli.command else { panic!("run was asked for") };
        assert_eq!((run.scenario().keys, run.scenario().clients), (1000, 7));
    }
}
