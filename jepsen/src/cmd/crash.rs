//! `kvjepsen crash`: SIGKILL at random moments, and damage to what can be rebuilt.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use harness::Target;
use rand::Rng;

use crate::blow::Blow;
use crate::campaign::{Campaign, must_run, small_limits, violation};
use crate::check::Summary;
use crate::damage::{self, Done};
use crate::load::Mix;
use crate::print::progress;

const EXAMPLES: &str = "\
Examples:
  kvjepsen crash                                    20 rounds, a new seed
  kvjepsen crash --rounds 500
  kvjepsen crash --rounds 7 --seed 42               the same choices again
  kvjepsen crash --target etcd --rounds 5           the checker against the original";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Crash {
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Makes all random choices the same as in another run [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// kvd or etcd; etcd's files are never damaged
    #[arg(long, default_value = "kvd")]
    target: Target,
    /// The server's binary, instead of the one built beside this one
    #[arg(long)]
    program: Option<PathBuf>,
    /// A further flag for the server; may be repeated
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    server_arg: Vec<String>,
    /// Leaves all files as they are
    #[arg(long)]
    no_damage: bool,
}

impl Crash {
    pub(crate) fn run(&self) -> Result<String> {
        let seed = self.seed.unwrap_or_else(rand::random);
        progress(&format!("crash: seed {seed}"));
        let mut options = small_limits(self.target, self.program.clone());
        options.args.extend(self.server_arg.iter().cloned());
        let mut campaign = Campaign::start(options, seed)?;
        let mut total = Total::default();
        for round in 1..=self.rounds {
            if let Err(error) = self.round(&mut campaign, round, &mut total) {
                let behind = campaign.leave_behind();
                progress(&behind);
                let replay = format!("kvjepsen crash --rounds {round} --seed {seed}");
                return Err(error.context(format!("round {round} (again: {replay})")));
            }
        }
        campaign.node.stop()?;
        let Total { summary: s, damaged, rebuilt, restarts } = total;
        Ok(format!(
            "{} rounds, {} writes acknowledged, {} unanswered ({} of them happened), {} reads, {} \
             revisions; files damaged in {damaged} rounds, {rebuilt} rebuilt, {restarts} on the \
             second start; seed {seed}",
            self.rounds, s.acknowledged, s.unknown, s.unknown_found, s.reads, s.revisions
        ))
    }

    fn round(&self, campaign: &mut Campaign, round: u64, total: &mut Total) -> Result<()> {
        let mut rng = campaign.rng(round);
        let load = campaign.load(round, Mix::default())?;
        let busy = Duration::from_millis(rng.random_range(100..1400));
        let blow = Blow::draw(&mut rng);
        sleep(busy);
        must_run(&mut campaign.node, "under load")?;
        load.strike();
        blow.prepare(&campaign.node)?;
        campaign.node.kill()?;
        let gathered = campaign.runtime.block_on(load.abandon());
        campaign.accept(&gathered)?;

        let mut done = Done::default();
        if self.target == Target::Kvd && !self.no_damage {
            let damages = damage::draw(&mut rng);
            done = damage::inflict(&campaign.node.data_dir(), &damages, &mut rng)?;
        }
        let log_before = campaign.node.log().len();
        let started = Instant::now();
        let second_start = restart(campaign, blow, !done.what.is_empty())?;
        let took = started.elapsed();
        let summary = campaign.check(gathered, &mut rng)?;

        let log = campaign.node.log().split_off(log_before);
        let warnings = rebuild_warnings(&log);
        if done.must_warn && warnings.len() != 1 {
            let what =
                format!("{} warnings of a rebuild, one is due: {warnings:?}", warnings.len());
            return Err(violation(format!("{what}; {}", done.what.join(", "))));
        }
        total.summary.add(&summary);
        total.damaged += u64::from(!done.what.is_empty());
        total.rebuilt += u64::from(!warnings.is_empty());
        total.restarts += u64::from(second_start);
        progress(&format!(
            "round {round}: killed {blow:?} after {busy:?}; {}{}; up in {took:.0?}{}; {} writes \
             acknowledged, {} open, {} reads, {} revisions: ok",
            if done.what.is_empty() { "files left alone".into() } else { done.what.join(", ") },
            if warnings.is_empty() { "" } else { " (rebuilt)" },
            if second_start { " on the second start" } else { "" },
            summary.acknowledged,
            summary.unknown,
            summary.reads,
            summary.revisions,
        ));
        Ok(())
    }
}

#[derive(Default)]
struct Total {
    summary: Summary,
    damaged: u64,
    rebuilt: u64,
    /// Starts that ended with the damage found, before one that repaired it.
    restarts: u64,
}

/// Starts the member again. One that finds damage may end and be started once more, as a
/// supervisor would; says whether that was needed.
fn restart(campaign: &mut Campaign, blow: Blow, damaged: bool) -> Result<bool> {
    let node = &mut campaign.node;
    if let Blow::Starting(after) = blow {
        node.spawn()?;
        sleep(after);
        node.kill()?;
    }
    let Err(first) = node.start_again() else { return Ok(false) };
    if !damaged || node.is_running() {
        return Err(violation(format!("it does not start again: {first:#}")));
    }
    match node.start_again() {
        Ok(()) => Ok(true),
        Err(second) => Err(violation(format!("twice it does not start again: {second:#}"))),
    }
}

/// The lines that say the engine was built anew.
fn rebuild_warnings(log: &str) -> Vec<&str> {
    let is_warning =
        |line: &&str| line.to_ascii_uppercase().contains("WARN") && line.contains("rebuil");
    log.lines().filter(is_warning).collect()
}
