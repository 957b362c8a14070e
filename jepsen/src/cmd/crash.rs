//! `kvjepsen crash`: SIGKILL at random moments, and damage to what can be rebuilt.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use harness::Target;
use rand::Rng;
use rand::rngs::StdRng;

use crate::blow::Blow;
use crate::campaign::{Campaign, must_run, no_start, small_limits, violation};
use crate::common::Common;
use crate::damage::{self, Done, Vandal};
use crate::load::Gathered;
use crate::print::progress;
use harness::history::author::Mix;
use harness::history::check::Summary;

const EXAMPLES: &str = "\
Examples:
  kvjepsen crash                                    20 rounds, a new seed
  kvjepsen crash --rounds 500
  kvjepsen crash --rounds 7 --seed 42               the same choices again
  kvjepsen crash --target etcd --rounds 5           the checker against the original";

/// Ends in a row because of one damage; the next start must repair it.
const RESTARTS_MAX: u64 = 2;
/// From a member's last words to its end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// On average; fewer, and the run was not worth making.
const WRITES_PER_ROUND_MIN: u64 = 50;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Crash {
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// kvd or etcd; etcd's files are never damaged
    #[arg(long, default_value = "kvd")]
    target: Target,
    #[command(flatten)]
    common: Common,
    /// Leaves all files as they are
    #[arg(long)]
    no_damage: bool,
}

impl Crash {
    pub(crate) fn run(&self) -> Result<String> {
        let seed = self.common.seed("crash");
        let options = self.common.node(small_limits(self.target));
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
        total.enough(self.rounds, self.damages())?;
        let Total { summary: s, damaged, rebuilt, restarts, .. } = total;
        Ok(format!(
            "{} rounds, {} writes acknowledged, {} unanswered ({} of them happened), {} reads, {} \
             revisions; files damaged in {damaged} rounds, {rebuilt} rebuilt, {restarts} of \
             them after running into the damage; seed {seed}",
            self.rounds, s.acknowledged, s.unknown, s.unknown_found, s.reads, s.revisions
        ))
    }

    fn damages(&self) -> bool {
        self.target == Target::Kvd && !self.no_damage
    }

    fn round(&self, campaign: &mut Campaign, round: u64, total: &mut Total) -> Result<()> {
        let mut rng = campaign.rng(round);
        let log_before = campaign.node.log().len();
        let load = match campaign.load(round, Mix::default()) {
            // It found the damage between the check and the load.
            Err(_) if total.vandal.engine_is_suspect() && gave_up(campaign, total.started) => {
                campaign.node.start_again().map_err(|error| no_start(&error))?;
                total.vandal.engine_was_rebuilt();
                total.restarts += 1;
                campaign.load(round, Mix::default())?
            }
            load => load?,
        };
        let busy = Duration::from_millis(rng.random_range(100..1400));
        let blow = Blow::draw(&mut rng);
        sleep(busy);
        let gave_up = total.vandal.engine_is_suspect() && gave_up(campaign, log_before);
        if !gave_up {
            must_run(&mut campaign.node, "under load")?;
            load.strike();
            blow.prepare(&campaign.node)?;
        }
        campaign.node.kill()?;
        let mut gathered = campaign.runtime.block_on(load.abandon());
        if !gave_up {
            campaign.accept(&gathered)?;
        }

        let mut done = Done::default();
        if self.damages() {
            let damages = damage::draw(&mut rng);
            done = total.vandal.inflict(&campaign.node.data_dir(), &damages, &mut rng)?;
        }
        progress(&format!(
            "round {round}: {} after {busy:?}; {}",
            if gave_up { "ended by itself".into() } else { format!("killed {blow:?}") },
            if done.what.is_empty() { "files left alone".into() } else { done.what.join(", ") },
        ));
        let started = Instant::now();
        let log_before = campaign.node.log().len();
        total.started = log_before;
        let (summary, restarts) =
            restart(campaign, blow, total.vandal.engine_is_suspect(), &mut gathered, &mut rng)?;
        let took = started.elapsed();

        let log = campaign.node.log().split_off(log_before);
        let warnings = rebuild_warnings(&log);
        // One for each start that did not come to its end.
        let warnings_max = if matches!(blow, Blow::Starting(_)) { 2 } else { 1 };
        if done.must_warn && !(1..=warnings_max).contains(&warnings.len()) {
            let what =
                format!("{} warnings of a rebuild, one is due: {warnings:?}", warnings.len());
            return Err(violation(what));
        }
        if !warnings.is_empty() {
            total.vandal.engine_was_rebuilt();
        }
        total.summary.add(&summary);
        total.damaged += u64::from(!done.what.is_empty());
        total.rebuilt += u64::from(!warnings.is_empty());
        total.restarts += restarts + u64::from(gave_up);
        progress(&format!(
            "  up and checked in {took:.0?}{}; {} writes acknowledged, {} open, {} reads, {} \
             revisions: ok",
            warnings.first().map_or(String::new(), |line| format!(" (rebuilt: {})", reason(line))),
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
    /// Times that the member ended because it found damage, before a start repaired it.
    restarts: u64,
    /// Where the log of the running member begins.
    started: usize,
    vandal: Vandal,
}

impl Total {
    /// A run that hardly wrote or broke anything proves nothing.
    fn enough(&self, rounds: u64, damages: bool) -> Result<()> {
        let writes = self.summary.acknowledged;
        ensure!(
            writes >= rounds * WRITES_PER_ROUND_MIN,
            "only {writes} writes were acknowledged in {rounds} rounds: too few to say anything"
        );
        let due = if damages { rounds / 5 } else { 0 };
        let damaged = self.damaged;
        ensure!(damaged >= due, "files were damaged in {damaged} of {rounds} rounds only");
        Ok(())
    }
}

/// Starts the member again and checks it. One with a damaged engine may find that at any moment,
/// end, and be started again, as a supervisor would; says how often that was needed.
fn restart(
    campaign: &mut Campaign,
    blow: Blow,
    suspect: bool,
    gathered: &mut Gathered,
    rng: &mut StdRng,
) -> Result<(Summary, u64)> {
    if let Blow::Starting(after) = blow {
        campaign.node.spawn()?;
        sleep(after);
        campaign.node.kill()?;
    }
    let mut restarts = 0;
    loop {
        let log_before = campaign.node.log().len();
        let checked = match campaign.node.start_again() {
            Ok(()) => campaign.check(gathered, rng),
            Err(error) => Err(no_start(&error)),
        };
        match checked {
            Ok(summary) => return Ok((summary, restarts)),
            Err(_) if suspect && restarts < RESTARTS_MAX && gave_up(campaign, log_before) => {
                restarts += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the member has ended because of what it found in its engine.
fn gave_up(campaign: &mut Campaign, log_before: usize) -> bool {
    let said = campaign.node.log().split_off(log_before);
    let found = said.lines().any(|line| line.contains("ERROR") && line.contains("engine"));
    // Its last words come before its end.
    found && (!campaign.node.is_running() || campaign.node.wait_exit(END_WITHIN).is_ok())
}

/// Why, as the member says it.
fn reason(warning: &str) -> &str {
    let reason = warning.split_once("reason=\"").map_or(warning, |(_, rest)| rest);
    reason.split_once('"').map_or(reason, |(reason, _)| reason)
}

/// The lines that say the engine was built anew.
fn rebuild_warnings(log: &str) -> Vec<&str> {
    let is_warning =
        |line: &&str| line.to_ascii_uppercase().contains("WARN") && line.contains("rebuil");
    log.lines().filter(is_warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_did_hardly_anything_fails() {
        let total = |acknowledged, damaged| Total {
            summary: Summary { acknowledged, ..Summary::default() },
            damaged,
            ..Total::default()
        };
        assert!(total(1000, 8).enough(20, true).is_ok());
        assert!(total(999, 8).enough(20, true).is_err());
        assert!(total(1000, 3).enough(20, true).is_err());
        assert!(total(1000, 0).enough(20, false).is_ok());
        assert!(total(50, 0).enough(1, true).is_ok());
    }

    #[test]
    fn warnings_of_a_rebuild_are_found_with_their_reason() {
        let log =
            "t  INFO ready\nt  WARN rebuilding the engine reason=\"it is missing\" from=\"x\"";
        let warnings = rebuild_warnings(log);
        assert_eq!(warnings.len(), 1);
        assert_eq!(reason(warnings[0]), "it is missing");
    }
}
