//! Auto-compaction: history is dropped by age or by number of revisions, by whoever leads.
//!
//! By age: the revision is noted ten times in each period (an hour at most), and once a whole period has
//! passed, everything older is compacted, once a period or once an hour. By number: every five minutes,
//! all but so many revisions. Times and steps are etcd's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::etcdserverpb::CompactionRequest;
use proto::internal::command::Op;
use store::Refusal;

use crate::config::AutoCompaction;
use crate::replica::Replica;

const HOUR: Duration = Duration::from_secs(3600);
/// Notes of the revision in one interval.
const NOTES: u32 = 10;
/// Between two compactions by number.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// Compacts for as long as the runtime lives, whenever this member leads.
pub async fn run(replica: Replica, mode: AutoCompaction, member_id: u64) {
    let mut plan = Plan::new(mode, Instant::now());
    loop {
        plan.note(replica.store().revision());
        tokio::time::sleep(plan.pause()).await;
        if replica.standing().leader != member_id {
            continue;
        }
        let current = replica.store().revision();
        let Some(revision) = plan.due(Instant::now(), current) else { continue };
        tracing::info!(revision, "auto-compaction begins");
        let op = Op::Compaction(CompactionRequest { revision, physical: false });
        match replica.propose(op).await {
            // Somebody else may have compacted further.
            Ok(Ok(_) | Err(Refusal::Compacted)) => plan.done(Instant::now(), revision),
            Ok(Err(refusal)) => tracing::warn!(revision, %refusal, "auto-compaction is refused"),
            Err(why) => tracing::warn!(revision, ?why, "auto-compaction failed: trying again"),
        }
    }
}

/// What to compact, and when.
enum Plan {
    Periodic {
        period: Duration,
        /// Revisions of one period, oldest first.
        notes: VecDeque<i64>,
        /// The first compaction waits for a whole period, the others for an interval.
        wait: Duration,
        since: Instant,
        last: i64,
    },
    Revisions {
        kept: i64,
        last: i64,
    },
}

impl Plan {
    fn new(mode: AutoCompaction, now: Instant) -> Self {
        match mode {
            AutoCompaction::Periodic(period) => {
                Self::Periodic { period, notes: VecDeque::new(), wait: period, since: now, last: 0 }
            }
            AutoCompaction::Revisions(kept) => Self::Revisions { kept, last: 0 },
        }
    }

    /// How long to wait after a note.
    fn pause(&self) -> Duration {
        match self {
            Self::Periodic { period, .. } => (*period).min(HOUR) / NOTES,
            Self::Revisions { .. } => REVISION_INTERVAL,
        }
    }

    fn note(&mut self, revision: i64) {
        let pause = self.pause();
        let Self::Periodic { period, notes, .. } = self else { return };
        notes.push_back(revision);
        let kept = (period.as_nanos() / pause.as_nanos().max(1)) as usize + 1;
        if notes.len() > kept {
            notes.pop_front();
        }
    }

    /// The revision to compact to, if it is time and there is something to compact.
    fn due(&self, now: Instant, current: i64) -> Option<i64> {
        let (revision, last) = match self {
            Self::Periodic { notes, wait, since, last, .. } => {
                let long_ago = now.duration_since(*since) >= *wait;
                (notes.front().copied().filter(|_| long_ago)?, *last)
            }
            Self::Revisions { kept, last } => (current - kept, *last),
        };
        (revision > 0 && revision != last).then_some(revision)
    }

    fn done(&mut self, now: Instant, revision: i64) {
        match self {
            Self::Periodic { period, wait, since, last, .. } => {
                (*wait, *since, *last) = ((*period).min(HOUR), now, revision);
            }
            Self::Revisions { last, .. } => *last = revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a plan over steps of its pause, each with one more write; returns at which step it
    /// compacted to what.
    fn compactions(mode: AutoCompaction, steps: i64) -> Vec<(i64, i64)> {
        let start = Instant::now();
        let mut plan = Plan::new(mode, start);
        let mut compacted = Vec::new();
        for step in 1..=steps {
            plan.note(step);
            let now = start + plan.pause() * step as u32;
            if let Some(revision) = plan.due(now, step) {
                plan.done(now, revision);
                compacted.push((step, revision));
            }
        }
        compacted
    }

    #[test]
    fn what_is_older_than_a_period_goes_once_a_period() {
        let mode = AutoCompaction::Periodic(Duration::from_secs(5));
        assert_eq!(compactions(mode, 35), [(10, 1), (20, 10), (30, 20)]);
    }

    #[test]
    fn of_a_long_period_what_is_older_goes_every_hour() {
        // Noted every six minutes; two hours are twenty notes.
        let mode = AutoCompaction::Periodic(2 * HOUR);
        assert_eq!(compactions(mode, 45), [(20, 1), (30, 10), (40, 20)]);
    }

    #[test]
    fn so_many_revisions_stay() {
        let mode = AutoCompaction::Revisions(3);
        assert_eq!(compactions(mode, 6), [(4, 1), (5, 2), (6, 3)]);
    }

    #[test]
    fn nothing_is_compacted_twice() {
        let start = Instant::now();
        let mut plan = Plan::new(AutoCompaction::Periodic(Duration::from_secs(10)), start);
        let mut compacted = 0;
        for step in 1..=100 {
            plan.note(7);
            let now = start + plan.pause() * step;
            if let Some(revision) = plan.due(now, 7) {
                plan.done(now, revision);
                compacted += 1;
            }
        }
        assert_eq!(compacted, 1);
    }

    #[test]
    fn a_compaction_that_failed_is_tried_again_at_the_next_note() {
        let start = Instant::now();
        let mut plan = Plan::new(AutoCompaction::Periodic(Duration::from_secs(10)), start);
        (1..=11).for_each(|revision| plan.note(revision));
        let now = start + Duration::from_secs(10);
        assert_eq!(plan.due(now, 11), Some(1));
        plan.note(12);
        assert_eq!(plan.due(now + plan.pause(), 12), Some(2));
    }
}
