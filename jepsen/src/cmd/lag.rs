//! `kvjepsen lag`: members are made to fall behind a log that is kept short, and are sent snapshots
//! while clients write as fast as they can.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use harness::Cluster;
use harness::lag::{self, Absence, Report};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::campaign::violation;
use crate::common::{Common, runtime};
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
    #[command(flatten)]
    common: Common,
}

impl Lag {
    pub(crate) fn run(&self) -> Result<String> {
        let seed = self.common.seed("lag");
        let runtime = runtime()?;
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
        let options = self.common.cluster(lag::options());
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
