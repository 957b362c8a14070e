//! kvbench: load for servers of etcd's v3 API, and kvd beside etcd.
//!
//! `kvbench run` puts one workload on a running server. `kvbench compare` starts kvd and etcd in
//! turn, puts the same loads on both and prints one table of ratios.

mod h2;
mod load;
mod workload;

mod measure;
mod scenario;

mod admin;
mod compare;

mod cli;
mod print;
mod table;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use cli::{Cli, Command};
use measure::{Probe, Process};
use scenario::address;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::progress(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Run(options) => single(options),
        Command::Compare(options) => compare(options),
    }
}

fn single(options: &cli::Run) -> Result<()> {
    let scenario = options.scenario();
    let probe = options
        .pid
        .map(|pid| Probe::new(vec![Process::new(pid)], options.data_dir.as_deref()))
        .transpose()?;
    let mut load = scenario.prepare(address(&options.endpoint)?)?;
    load.run(options.warm_up)?;
    let measured = load.measure(options.duration, probe.as_ref())?;
    let text = match options.json {
        true => serde_json::to_string_pretty(&measured)? + "\n",
        false => print::measured(&measured),
    };
    print::result(&text)?;
    ensure!(
        measured.failed == 0,
        "{} calls failed: {}",
        measured.failed,
        admin::complaint(&url(&options.endpoint)),
    );
    Ok(())
}

fn compare(options: &cli::Compare) -> Result<()> {
    let report = compare::run(options)?;
    let markdown = report.markdown();
    print::result(&markdown)?;
    for (path, text) in [(&options.json, report.json()), (&options.markdown, markdown)] {
        if let Some(path) = path {
            fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

/// The general client wants a URL.
fn url(endpoint: &str) -> String {
    match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("http://{endpoint}"),
    }
}
