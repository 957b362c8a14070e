//! Rounds against one member: load, a fault, a restart, a check.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::{Client, Node, NodeOptions, Target};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::runtime::Runtime;

use crate::common::runtime;
use crate::load::{Gathered, Load};
use harness::history::author::Mix;
use harness::history::check::{Checker, Summary};
use harness::history::facts::{Compaction, Operation, Outcome, Write};
use harness::history::inspect::inspect;
use harness::history::knowledge::Knowledge;
pub(crate) use harness::history::trial::Violation;
use harness::history::wire::{self, Failure};

pub(crate) fn violation(what: impl Into<String>) -> anyhow::Error {
    Violation(vec![what.into()]).into()
}

/// The log, which says why, is shown apart.
pub(crate) fn no_start(error: &anyhow::Error) -> anyhow::Error {
    let why = error.to_string();
    violation(format!("it does not start again: {}", why.lines().next().unwrap_or_default()))
}

/// One member and everything that was ever true of it.
pub(crate) struct Campaign {
    pub(crate) node: Node,
    pub(crate) runtime: Runtime,
    checker: Checker,
    common: Arc<Knowledge>,
    seed: u64,
}

impl Campaign {
    /// Starts a new member.
    pub(crate) fn start(options: NodeOptions, seed: u64) -> Result<Self> {
        let runtime = runtime()?;
        let node = Node::start(options)?;
        let (checker, common) = (Checker::new(), Arc::new(Knowledge::default()));
        Ok(Self { node, runtime, checker, common, seed })
    }

    /// Random choices of a round: the same for the same seed and round, whatever came before.
    pub(crate) fn rng(&self, round: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    pub(crate) fn load(&self, round: u64, mix: Mix) -> Result<Load> {
        let (seed, from) = (self.seed.wrapping_add(round), self.checker.upto() + 1);
        let endpoint = self.node.endpoint();
        let load = Load::start(&endpoint, mix, seed, from, &self.common);
        self.runtime.block_on(load).context("starting the clients")
    }

    /// Returns once the load has brought the member to a revision.
    pub(crate) fn wait_revision(&self, revision: i64, within: Duration) -> Result<()> {
        let told = self.common.wait_told(revision);
        let told = self.runtime.block_on(async { tokio::time::timeout(within, told).await });
        told.map_err(|_| violation(format!("revision {revision} was not reached in {within:?}")))
    }

    /// One write of its own; an error other than a refusal is one here as well.
    pub(crate) fn write(&self, mut operations: Vec<Operation>) -> Result<(Write, Option<Failure>)> {
        let id = self.common.next_id();
        for (place, operation) in (0..).zip(&mut operations) {
            operation.sign(id, place);
        }
        let mut write = Write::new(id, operations, self.common.floor());
        let sent = self.runtime.block_on(async {
            let mut client = Client::connect(&self.node.endpoint()).await?;
            anyhow::Ok(wire::send(&mut client, &write).await)
        })?;
        let refusal = match sent {
            Ok(outcome) => {
                if let Outcome::Applied(at) | Outcome::Nothing(at) = outcome {
                    self.common.told(at);
                }
                write.outcome = outcome;
                None
            }
            Err(refusal) if refusal.is_refusal() => {
                write.outcome = Outcome::Refused;
                Some(refusal)
            }
            Err(failure) => return Err(violation(format!("a write failed: {failure}"))),
        };
        Ok((write, refusal))
    }

    /// Compacts, physically, everything that was checked; what came later must stay to be checked.
    pub(crate) fn compact(&self) -> Result<Compaction> {
        let revision = self.checker.upto();
        self.common.will_compact(revision);
        self.runtime.block_on(async {
            let mut client = Client::connect(&self.node.endpoint()).await?;
            wire::compact(&mut client, revision, true).await?;
            Ok(Compaction { revision, acknowledged: true })
        })
    }

    /// A snapshot, thrown away: its length, or why there is none.
    pub(crate) fn snapshot(&self) -> Result<Result<usize, Failure>> {
        self.runtime.block_on(async {
            let mut client = Client::connect(&self.node.endpoint()).await?;
            Ok(wire::snapshot(&mut client).await)
        })
    }

    /// Nothing may have failed before the fault, and the server must have lived until then.
    pub(crate) fn accept(&self, gathered: &Gathered) -> Result<()> {
        match gathered.failures.is_empty() {
            true => Ok(()),
            false => Err(Violation(gathered.failures.clone()).into()),
        }
    }

    /// Holds the running member to everything that was acknowledged or seen. May be called again
    /// with the same if the member has ended meanwhile.
    pub(crate) fn check(&mut self, gathered: &mut Gathered, rng: &mut StdRng) -> Result<Summary> {
        let endpoint = self.node.endpoint();
        let round = &mut gathered.round;
        round.compacted = 0;
        round.replayed.clear();
        let asked = self.runtime.block_on(inspect(&endpoint, round, &self.common, rng));
        if let Err(error) = asked {
            return Err(violation(format!("the member does not answer as it must: {error:#}")));
        }
        self.checker.absorb(round).map_err(|problems| Violation(problems).into())
    }

    /// For messages: the end of the log, and where everything is.
    pub(crate) fn leave_behind(&mut self) -> String {
        let _ = self.node.kill();
        let dir = self.node.keep_dir();
        format!("{}\nlog and data are kept in {}", self.node.log_tail(), dir.display())
    }
}

/// Options every campaign starts a member with: checkpoints and snapshots as often as can be.
pub(crate) fn small_limits(target: Target) -> NodeOptions {
    let options = NodeOptions::new(target);
    match target {
        Target::Etcd => options.arg("--snapshot-count=500"),
        Target::Kvd => options
            .arg("--recent-bytes-max=1MiB")
            .arg("--row-cache-bytes=64KiB")
            .arg("--log-cache-bytes=64KiB")
            .arg("--snapshot-log-bytes=1MiB")
            .arg("--log-retention-bytes=0"),
    }
}

/// The exit status of a member that was to be alive.
pub(crate) fn must_run(node: &mut Node, when: &str) -> Result<()> {
    if node.is_running() {
        return Ok(());
    }
    bail!(violation(format!("the member ended by itself {when}")))
}
