//! kvjepsen: faults, histories and checkers.
//!
//! A command starts real server processes, writes to them over gRPC, breaks something,
//! and holds the server to what it promised. What was acknowledged, or only seen by a
//! reader, must still be there, at the same revision; [`harness::history`] says what that means exactly, and
//! its tests break good histories in every way to prove that it notices.
//!
//! Every command prints its seed. With the same seed a run makes the same choices (faults, damage,
//! operations); how they fall together in time is up to the machine.
//!
//! Exit code 0: nothing found. 1: a violation, with the evidence kept. 2: the run could not be made.

mod load;

mod blow;
mod campaign;
mod common;
mod damage;
mod image;
mod mischief;

mod cmd;
mod print;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use campaign::Violation;
use cmd::crash::Crash;
use cmd::failover::Failover;
use cmd::full_disk::FullDisk;
use cmd::lag::Lag;
use cmd::memory::Memory;
use cmd::mixed::Mixed;
use cmd::one_row::OneRow;
use cmd::power_cut::PowerCut;

/// Breaks kvd (or etcd) in every way it must survive, and checks that it did
#[derive(Debug, Parser)]
#[command(name = "kvjepsen", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kills the server at random moments and damages what it must be able to rebuild
    Crash(Crash),
    /// Cuts the power: only what was flushed to a small disk is left
    PowerCut(PowerCut),
    /// Fills the disk, and lets the log fail
    FullDisk(FullDisk),
    /// Kills, pauses, cuts off, damages and replaces members of a cluster, several at a time
    Mixed(Mixed),
    /// Takes the leader away, and says how long nobody could write
    Failover(Failover),
    /// Makes members need snapshots, again and again, under as many writes as there can be
    Lag(Lag),
    /// Writes gigabytes into a small working set, and looks at the memory held
    Memory(Memory),
    /// Overwrites one key, and counts the bytes that reach the device
    OneRow(OneRow),
}

fn main() -> ExitCode {
    let (name, result) = match &Cli::parse().command {
        Command::Crash(command) => ("crash", command.run()),
        Command::Failover(command) => ("failover", command.run()),
        Command::FullDisk(command) => ("full-disk", command.run()),
        Command::Lag(command) => ("lag", command.run()),
        Command::Memory(command) => ("memory", command.run()),
        Command::Mixed(command) => ("mixed", command.run()),
        Command::OneRow(command) => ("one-row", command.run()),
        Command::PowerCut(command) => ("power-cut", command.run()),
    };
    match result {
        Ok(summary) => {
            print::verdict(&format!("PASS {name}: {summary}"));
            ExitCode::SUCCESS
        }
        Err(error) if error.downcast_ref::<Violation>().is_some() => {
            print::verdict(&format!("FAIL {name}: {error:#}"));
            ExitCode::from(1)
        }
        Err(error) => {
            print::progress(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
