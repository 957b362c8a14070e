//! `kvjepsen mixed`: members of a cluster are killed, paused, cut off, damaged and replaced, several
//! of that at a time, while clients go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use harness::history::author::Mix;
use harness::history::check::Summary;
use harness::history::trial::Trial;
use harness::{Cluster, ClusterOptions, PATIENCE, Target};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::campaign::{small_limits, violation};
use crate::common::{Common, runtime};
use crate::mischief::{Nemesis, plan};
use crate::print::progress;

const EXAMPLES: &str = "\
Examples:
  kvjepsen mixed                                  a minute, a new seed
  kvjepsen mixed --minutes 30 --seed 42
  kvjepsen mixed --members 5
  kvjepsen mixed --target etcd                    the checker against the original";

/// After everything was mended, clients must get on by so many writes.
const WRITES_AFTER: usize = 30;
/// On average; fewer, and the run was not worth making.
const WRITES_PER_ROUND_MIN: u64 = 100;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Mixed {
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=9))]
    members: u64,
    /// kvd or etcd; etcd's files are never damaged
    #[arg(long, default_value = "kvd")]
    target: Target,
    /// A kind of fault to leave out, as the verdict calls it; may be repeated
    #[arg(long, value_name = "KIND")]
    without: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Default)]
struct Total {
    rounds: u64,
    summary: Summary,
    faults: BTreeMap<String, u64>,
    damages: u64,
    /// The longest that clients had to wait for a write after everything was mended.
    slowest: Duration,
}

impl Mixed {
    pub(crate) fn run(&self) -> Result<String> {
        let seed = self.common.seed("mixed");
        let runtime = runtime()?;
        runtime.block_on(self.rounds(seed))
    }

    async fn rounds(&self, seed: u64) -> Result<String> {
        let members = usize::try_from(self.members)?;
        let mut options = ClusterOptions::new(self.target, members);
        options.args = small_limits(self.target).args;
        let cluster = Cluster::start_with(self.common.cluster(options))?;
        let mut trial = Trial::new(cluster, seed);
        let (mut nemesis, mut total) = (Nemesis::new(members), Total::default());
        let end = Instant::now() + Duration::from_secs(60 * self.minutes);
        while Instant::now() < end {
            total.rounds += 1;
            let rng = StdRng::seed_from_u64(
                seed.wrapping_add(total.rounds.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            );
            if let Err(error) = self.round(&mut trial, &mut nemesis, rng, &mut total).await {
                progress(&trial.cluster.describe().await);
                progress(&trial.cluster.log_tails());
                progress(&format!("logs and data are kept in {:?}", trial.cluster.keep_dirs()));
                let (round, minutes) = (total.rounds, self.minutes);
                let again = format!("kvjepsen mixed --minutes {minutes} --seed {seed}");
                return Err(error.context(format!("round {round} (again: {again})")));
            }
        }
        let received = |place: usize| {
            trial.cluster.node(place).log().matches("receiving a snapshot file").count()
        };
        let snapshots: usize = trial.cluster.places().map(received).sum();
        let Total { rounds, summary: s, faults, damages, slowest } = total;
        ensure!(
            s.acknowledged >= rounds * WRITES_PER_ROUND_MIN,
            "only {} writes were acknowledged in {rounds} rounds: too few to say anything",
            s.acknowledged
        );
        Ok(format!(
            "{rounds} rounds, {} writes acknowledged, {} unanswered ({} of them happened), {} \
             reads, {} revisions; faults {faults:?}, files damaged {damages}, \
             {snapshots} snapshots sent; first write at most \
             {slowest:.1?} after all was mended; seed {seed}",
            s.acknowledged, s.unknown, s.unknown_found, s.reads, s.revisions
        ))
    }

    async fn round(
        &self,
        trial: &mut Trial,
        nemesis: &mut Nemesis,
        mut rng: StdRng,
        total: &mut Total,
    ) -> Result<()> {
        let rng = &mut rng;
        trial.work(Mix { keys: 200, readers: 4, ..Mix::default() });
        let mut done = Vec::new();
        for (pause, fault) in plan(rng, trial.cluster.places().len()) {
            if self.without.contains(&fault.kind()) {
                continue;
            }
            tokio::time::sleep(pause).await;
            progress(&format!("  {fault:?}"));
            if nemesis.strike(&mut trial.cluster, fault, rng).await? {
                *total.faults.entry(fault.kind()).or_default() += 1;
                done.push(format!("{fault:?}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..5000))).await;
        progress("  mend");
        let damaged = nemesis.mend(&mut trial.cluster, rng).await?;
        total.damages += damaged.len() as u64;
        done.extend(damaged);
        let mended = Instant::now();
        let writes = trial.crowd().wait_writes(WRITES_AFTER, mended);
        let Ok(first) = tokio::time::timeout(PATIENCE, writes).await else {
            let what = format!("nobody can write {PATIENCE:?} after all was mended");
            return Err(violation(what));
        };
        total.slowest = total.slowest.max(first);
        let checking = Instant::now();
        let summary = trial.check().await?;
        for place in trial.cluster.places() {
            nemesis.expect_alive(&mut trial.cluster, place)?;
        }
        total.summary.add(&summary);
        progress(&format!(
            "round {}: {}\n  writes {first:.1?} later, checked in {:.1?}; {} acknowledged, {} open, \
             {} reads, {} revisions: ok",
            total.rounds,
            done.join(", "),
            checking.elapsed(),
            summary.acknowledged,
            summary.unknown,
            summary.reads,
            summary.revisions,
        ));
        Ok(())
    }
}
