//! `kvjepsen lag`: members are made to fall behind a log that is kept short, and are sent snapshots
//! while clients write as fast as they can.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use harness::Cluster;
use harness::lag::{self, Absence, Report};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::campaign::violation;
use crate::print::progress;

const EXAMPLES: &str = "\
Examples:
  kvjepsen lag                        a minute, a new seed
  kvjepsen lag --minutes 10 --seed 42";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Lag {
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Makes all random choices the same as in another run [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// The server's binary, instead of the one built beside this one
    #[arg(long)]
    program: Option<PathBuf>,
    /// A further flag for the servers; may be repeated
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    server_arg: Vec<String>,
}

impl Lag {
    pub(crate) fn run(&self) -> Result<String> {
        let seed = self.seed.unwrap_or_else(rand::random);
        progress(&format!("lag: seed {seed}"));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let report = runtime.block_on(self.rounds(seed))?;
        let Report { rounds, written, installed, happened } = report;
        // A member that finds what it missed in a log after all shows nothing.
        ensure!(
            installed as u64 > rounds / 2,
            "only {installed} snapshots were installed in {rounds} rounds: too few to say anything"
        );
        Ok(format!(
            "{installed} snapshots installed in {rounds} rounds, {happened:?}, {} writes \
             acknowledged, {} unanswered; seed {seed}",
            written.acknowledged, written.unanswered
        ))
    }

    async fn rounds(&self, seed: u64) -> Result<Report> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut options = lag::options();
        options.args.extend(self.server_arg.iter().cloned());
        options.program.clone_from(&self.program);
        let mut lag = lag::Lag::new(Cluster::start_with(options)?);
        let end = Instant::now() + Duration::from_secs(60 * self.minutes);
        while Instant::now() < end {
            let absence = *Absence::ALL.choose(&mut rng).expect("there are some");
            progress(&format!("  {absence:?}"));
            if let Err(error) = lag.round(absence, &mut rng).await {
                let dirs = lag.cluster.keep_dirs();
                progress(&format!("logs and data are kept in {dirs:?}"));
                return Err(violation(format!("{absence:?}: {error:#}")));
            }
        }
        let finished = lag.finish().await.map_err(|error| violation(format!("{error:#}")))?;
        Ok(finished.1)
    }
}
