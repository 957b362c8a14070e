//! Members that want to lead at the same moment: all but one give way.
//!
//! Two that campaign within a round trip promise each other their votes, then vote for themselves,
//! and nobody leads for another election timeout. Here a pre-vote is promised to one at a time, and
//! who promised one or is outdone does not ask. Whoever is refused asks again later, so this decides
//! nothing but who is first.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openraft::alias::LogIdOf;

use super::types::Types;

type Last = Option<LogIdOf<Types>>;

/// The campaigns this member knows of.
pub struct Campaigns {
    me: u64,
    /// How long a campaign is worth waiting for.
    lasts: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// This member's own, and the end of its log.
    own: Option<(Last, Instant)>,
    /// Whose was promised the vote.
    promised: Option<(u64, Instant)>,
}

impl Campaigns {
    pub fn new(me: u64, election_timeout: Duration) -> Campaigns {
        Campaigns { me, lasts: election_timeout / 5, known: Mutex::default() }
    }

    /// Whether this member, whose log ends there, may ask for pre-votes.
    pub fn may_ask(&self, last: Last) -> bool {
        let mut known = self.known();
        let gives_way = known.promised.is_some_and(|(_, at)| self.is_under_way(at));
        if !gives_way {
            known.own = Some((last, Instant::now()));
        }
        !gives_way
    }

    /// Whether a pre-vote may be promised to a member that nothing else speaks against.
    pub fn may_promise(&self, to: u64, last: Last) -> bool {
        let mut known = self.known();
        let other = known.promised.is_some_and(|(id, at)| id != to && self.is_under_way(at));
        let own =
            known.own.is_some_and(|(own, at)| self.is_under_way(at) && (own, self.me) > (last, to));
        let may = !other && !own;
        if may {
            known.promised = Some((to, Instant::now()));
        }
        may
    }

    fn is_under_way(&self, since: Instant) -> bool {
        since.elapsed() < self.lasts
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use store::LogId;

    use super::super::types::raft_id;
    use super::*;

    fn campaigns(me: u64) -> Campaigns {
        Campaigns::new(me, Duration::from_secs(1000))
    }

    fn at(term: u64, index: u64) -> Last {
        raft_id(LogId { term, index })
    }

    #[test]
    fn of_two_at_once_one_gives_way() {
        for (one_ends, other_ends) in [((2, 7), (2, 7)), ((2, 7), (2, 8)), ((3, 1), (2, 8))] {
            let (one, other) = (campaigns(1), campaigns(2));
            let (one_ends, other_ends) =
                (at(one_ends.0, one_ends.1), at(other_ends.0, other_ends.1));
            assert!(one.may_ask(one_ends) && other.may_ask(other_ends));
            let promised = [one.may_promise(2, other_ends), other.may_promise(1, one_ends)];
            assert_eq!(promised, [one_ends <= other_ends, one_ends > other_ends]);
        }
    }

    #[test]
    fn who_promised_does_not_ask_and_promises_nobody_else() {
        let voter = campaigns(9);
        assert!(voter.may_promise(1, at(2, 7)));
        assert!(!voter.may_ask(at(2, 7)));
        assert!(!voter.may_promise(2, at(2, 8)));
        assert!(voter.may_promise(1, at(2, 7)), "it may have to ask twice");
    }

    #[test]
    fn a_campaign_that_led_to_nothing_is_forgotten() {
        let voter = Campaigns::new(9, Duration::ZERO);
        assert!(voter.may_promise(1, at(2, 7)));
        assert!(voter.may_ask(at(2, 7)));
        assert!(voter.may_promise(2, at(2, 7)));
    }
}
