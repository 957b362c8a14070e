//! Random requests to two servers, answers compared field by field.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line tool")]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use harness::differential::{Plan, run};

const USAGE: &str = "\
usage: differential [--steps N] [--seed N] [--left etcd|kvd] [--right etcd|kvd] [--shrink-runs N]

Sends the same random requests to two servers and compares every answer and every watch event.
  --steps N        how many requests (default 100000)
  --seed N         which ones (default: a random seed, printed)
  --left TARGET    the reference (default etcd, from tests/go/build)
  --right TARGET   what is compared with it (default kvd); etcd checks the tool itself
  --right-arg FLAG one more flag for the right server, as --right-arg --max-txn-ops=100
  --shrink-runs N  how often a difference is replayed to shorten it (default 60)";

fn main() -> ExitCode {
    match differ() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("differential: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether the servers are the same.
fn differ() -> Result<bool> {
    let mut plan = Plan {
        left: "etcd".parse()?,
        right: "kvd".parse()?,
        right_args: Vec::new(),
        seed: rand::random(),
        steps: 100_000,
        shrink_runs_max: 60,
        progress: |steps| {
            if steps % 10_000 == 0 {
                eprintln!("{steps} steps");
            }
        },
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        if flag == "--help" {
            println!("{USAGE}");
            return Ok(true);
        }
        let value = args.next().with_context(|| format!("{flag} needs a value\n{USAGE}"))?;
        match flag.as_str() {
            "--steps" => plan.steps = value.parse().context("--steps")?,
            "--seed" => plan.seed = value.parse().context("--seed")?,
            "--left" => plan.left = value.parse().context("--left")?,
            "--right" => plan.right = value.parse().context("--right")?,
            "--right-arg" => plan.right_args.push(value),
            "--shrink-runs" => plan.shrink_runs_max = value.parse().context("--shrink-runs")?,
            other => bail!("unknown option {other}\n{USAGE}"),
        }
    }
    let (left, right) = (plan.left.name(), plan.right.name());
    println!("{left} and {right}: {} steps, seed {}", plan.steps, plan.seed);
    let start = std::time::Instant::now();
    let outcome = run(&plan)?;
    let seconds = start.elapsed().as_secs_f32();
    match &outcome {
        Ok(compared) => {
            compared.iter().for_each(|(kind, times)| println!("{times:>8} {kind}"));
            println!("no difference in {} steps, {seconds:.1} s", plan.steps);
        }
        Err(difference) => println!("{difference}\nseed {}, {seconds:.1} s", plan.seed),
    }
    Ok(outcome.is_ok())
}
