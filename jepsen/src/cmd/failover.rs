//! `kvjepsen failover`: how long clients of a cluster cannot write when its leader goes away.
//!
//! The times are for people to read: a busy machine makes them longer, so they decide nothing. That
//! nothing is lost meanwhile does.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use harness::history::author::Mix;
use harness::history::check::Summary;
use harness::history::trial::Trial;
use harness::{Cluster, ClusterOptions, PATIENCE, Target};

use crate::campaign::violation;
use crate::common::{Common, runtime};
use crate::print::progress;

const EXAMPLES: &str = "\
Examples:
  kvjepsen failover                           kill -9 of the leader, 10 times
  kvjepsen failover --how stop --times 30     as when a machine is shut down
  kvjepsen failover --target etcd             the same with the original

Take a release build (cargo build --release): others are slower.";

/// Writes between two moments of a round.
const SOME: usize = 100;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Failover {
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    times: u64,
    #[arg(long, value_enum, default_value_t = How::Kill)]
    how: How,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=9))]
    members: u64,
    #[arg(long, default_value = "kvd")]
    target: Target,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    /// kill -9
    Kill,
    /// SIGTERM
    Stop,
}

/// What a round showed.
struct Loss {
    /// From when the leader went until a write was acknowledged that was sent after that.
    first_write: Duration,
    /// The longest time in which no write was acknowledged, the leader's return included.
    gap: Duration,
    terms: u64,
}

impl Failover {
    pub(crate) fn run(&self) -> Result<String> {
        let seed = self.common.seed("failover");
        let runtime = runtime()?;
        runtime.block_on(self.rounds(seed))
    }

    async fn rounds(&self, seed: u64) -> Result<String> {
        let mut options = ClusterOptions::new(self.target, usize::try_from(self.members)?);
        options.links = false;
        let cluster = Cluster::start_with(self.common.cluster(options))?;
        let mut trial = Trial::new(cluster, seed);
        let (mut total, mut losses) = (Summary::default(), Vec::new());
        for round in 1..=self.times {
            let loss = self.round(&mut trial).await;
            let checked = match loss {
                Ok(loss) => trial.check().await.map(|summary| (loss, summary)),
                Err(error) => Err(error),
            };
            let (loss, summary) = checked.inspect_err(|_| {
                progress(&trial.cluster.log_tails());
                progress(&format!("logs and data are kept in {:?}", trial.cluster.keep_dirs()));
            })?;
            total.add(&summary);
            progress(&format!(
                "round {round}: first write after {} ms, none for {} ms, term +{}",
                loss.first_write.as_millis(),
                loss.gap.as_millis(),
                loss.terms
            ));
            losses.push(loss);
        }
        let terms: u64 = losses.iter().map(|loss| loss.terms).sum();
        let first = Spread::of(losses.iter().map(|loss| loss.first_write));
        let gap = Spread::of(losses.iter().map(|loss| loss.gap));
        Ok(format!(
            "{} x {:?} of the leader: first write after {first}; no write for {gap}; {terms} \
             terms, {} writes acknowledged; seed {seed}",
            self.times, self.how, total.acknowledged
        ))
    }

    async fn round(&self, trial: &mut Trial) -> Result<Loss> {
        trial.work(Mix::default());
        get_on(trial, Instant::now()).await?;
        let leader = trial.cluster.leader().await?;
        let term = trial.cluster.term(leader).await?;
        let gone = Instant::now();
        match self.how {
            How::Kill => trial.cluster.kill(leader)?,
            How::Stop => drop(trial.cluster.stop(leader)?),
        }
        let first_write = get_on(trial, gone).await?;
        trial.cluster.start_again(leader)?;
        get_on(trial, Instant::now()).await?;
        let (_, gap) = trial.crowd().longest_gap(gone);
        let leader = trial.cluster.leader().await?;
        let terms = trial.cluster.term(leader).await?.saturating_sub(term);
        Ok(Loss { first_write, gap, terms })
    }
}

/// Waits for writes sent after `moment`; how long the first of them took.
async fn get_on(trial: &Trial, moment: Instant) -> Result<Duration> {
    let writes = trial.crowd().wait_writes(SOME, moment);
    let first = tokio::time::timeout(PATIENCE, writes).await;
    first.map_err(|_| violation(format!("nobody can write for {PATIENCE:?}")))
}

/// The middle and the worst of some times.
struct Spread {
    median: Duration,
    max: Duration,
}

impl Spread {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.collect();
        times.sort_unstable();
        let at = |place: usize| times.get(place).copied().unwrap_or_default();
        Self { median: at(times.len() / 2), max: at(times.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, max) = (self.median.as_millis(), self.max.as_millis());
        write!(f, "{median} ms (median), {max} ms (worst)")
    }
}
