//! Which changes of the membership may be made: etcd's rules in etcd's order, which decides what is
//! answered when several of them forbid a change.

use store::mvcc::Member;

use super::change::{Change, ChangeError};

/// A learner must have this much of the leader's log to be promoted, as in etcd.
const READY_PERCENT: u64 = 90;

/// What the leader knows.
pub struct Facts<'a> {
    /// `--strict-reconfig-check`: no change may cost the quorum.
    pub strict: bool,
    pub max_learners: usize,
    pub leader: u64,
    pub members: &'a [Member],
    pub is_removed: &'a dyn Fn(u64) -> bool,
    /// Whether the leader heard from a member lately.
    pub is_active: &'a dyn Fn(u64) -> bool,
    /// How much of the leader's log a member has.
    pub percent: &'a dyn Fn(u64) -> u64,
}

impl Facts<'_> {
    pub fn permit(&self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::Add { id, node, learner } => self.permit_add(*id, &node.peer_urls, *learner),
            Change::Promote { id } => self.permit_promote(*id),
            Change::Remove { id } => self.permit_remove(*id),
        }
    }

    fn permit_add(&self, id: u64, urls: &[String], learner: bool) -> Result<(), ChangeError> {
        let voters = self.voters().count();
        if self.strict {
            let started = self.started_without(None);
            // Alone, a member may always be given company.
            let alone = (started, voters) == (1, 1);
            if !learner && !alone && started < quorum(voters + 1) {
                return Err(ChangeError::NotEnoughStarted);
            }
            if voters != 1 && self.active() < quorum(voters + 1) {
                return Err(ChangeError::Unhealthy);
            }
        }
        if (self.is_removed)(id) {
            return Err(ChangeError::NotFound);
        }
        if self.member(id).is_some() {
            return Err(ChangeError::IdExists);
        }
        let taken = |url| self.members.iter().any(|member| member.peer_urls.contains(url));
        if urls.iter().any(taken) {
            return Err(ChangeError::PeerUrlExists);
        }
        let learners = self.members.len() - voters;
        if learner && learners >= self.max_learners {
            return Err(ChangeError::TooManyLearners);
        }
        Ok(())
    }

    fn permit_promote(&self, id: u64) -> Result<(), ChangeError> {
        let member = self.member(id).ok_or(ChangeError::NotFound)?;
        if (self.percent)(id) < READY_PERCENT {
            return Err(ChangeError::LearnerNotReady);
        }
        // The learner itself counts as started.
        let (voters, started) = (self.voters().count() + 1, self.started_without(None) + 1);
        if self.strict && started < quorum(voters) {
            return Err(ChangeError::NotEnoughStarted);
        }
        if member.is_learner { Ok(()) } else { Err(ChangeError::NotLearner) }
    }

    fn permit_remove(&self, id: u64) -> Result<(), ChangeError> {
        let member = self.member(id);
        let is_voter = member.is_some_and(|member| !member.is_learner);
        let voters = self.voters().count();
        let others = voters - usize::from(is_voter);
        if is_voter && others == 0 {
            return Err(ChangeError::NotEnoughStarted);
        }
        if self.strict && member.is_none_or(|member| !member.is_learner) {
            if self.started_without(Some(id)) < quorum(others) {
                return Err(ChangeError::NotEnoughStarted);
            }
            // One that is down is no part of the quorum that works now.
            let counts = id == self.leader || (self.is_active)(id);
            if counts && self.active() - 1 < quorum(voters - 1) {
                return Err(ChangeError::Unhealthy);
            }
        }
        member.map(|_| ()).ok_or(ChangeError::NotFound)
    }

    fn member(&self, id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// Voters that have made themselves known, not counting this one.
    fn started_without(&self, id: Option<u64>) -> usize {
        self.voters().filter(|voter| Some(voter.id) != id && !voter.name.is_empty()).count()
    }

    fn active(&self) -> usize {
        self.voters().filter(|voter| (self.is_active)(voter.id)).count()
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::Node;

    /// `v` a voter, `u` one that has not started, `l` a learner; in capitals: not heard of lately.
    /// Ids count from 1, which leads.
    fn decide(members: &str, strict: bool, change: &Change) -> Result<(), ChangeError> {
        let kinds: Vec<char> = members.chars().collect();
        let member = |(place, kind): (usize, &char)| Member {
            id: place as u64 + 1,
            name: if kind.eq_ignore_ascii_case(&'u') { String::new() } else { "started".into() },
            peer_urls: vec![url(place as u64 + 1)],
            is_learner: kind.eq_ignore_ascii_case(&'l'),
            ..Member::default()
        };
        let members: Vec<Member> = kinds.iter().enumerate().map(member).collect();
        let active = |id: u64| kinds.get(id as usize - 1).is_some_and(|kind| kind.is_lowercase());
        Facts {
            strict,
            max_learners: 1,
            leader: 1,
            members: &members,
            is_removed: &|id| id == 99,
            is_active: &active,
            percent: &|id| if active(id) { 90 } else { 89 },
        }
        .permit(change)
    }

    fn url(id: u64) -> String {
        format!("http://m{id}:2380")
    }

    fn add(id: u64, learner: bool) -> Change {
        let node = Node { peer_urls: vec![url(id)], ..Node::default() };
        Change::Add { id, node, learner }
    }

    #[test]
    fn voters_are_added_while_the_quorum_can_bear_it() {
        for (members, want) in [
            ("v", Ok(())),
            ("vv", Ok(())),
            ("vvv", Ok(())),
            ("vvvv", Ok(())),
            ("vl", Ok(())),
            ("vu", Err(ChangeError::NotEnoughStarted)),
            ("vvu", Err(ChangeError::NotEnoughStarted)),
            ("vvvu", Ok(())),
            ("vV", Err(ChangeError::Unhealthy)),
            ("vvV", Err(ChangeError::Unhealthy)),
            ("vvvvV", Ok(())),
            ("vvvVV", Err(ChangeError::Unhealthy)),
            ("vvvL", Ok(())),
        ] {
            assert_eq!(decide(members, true, &add(50, false)), want, "{members}");
            assert_eq!(decide(members, false, &add(50, false)), Ok(()), "{members}");
        }
    }

    #[test]
    fn learners_are_added_one_at_a_time() {
        for (members, want) in [
            ("v", Ok(())),
            ("vvv", Ok(())),
            ("vu", Ok(())),
            ("vU", Err(ChangeError::Unhealthy)),
            ("vvV", Err(ChangeError::Unhealthy)),
            ("vl", Err(ChangeError::TooManyLearners)),
        ] {
            assert_eq!(decide(members, true, &add(50, true)), want, "{members}");
        }
    }

    #[test]
    fn ids_and_urls_are_used_once() {
        let node = Node { peer_urls: vec!["http://x:1".into(), url(2)], ..Node::default() };
        let taken = Change::Add { id: 50, node, learner: false };
        assert_eq!(decide("vv", true, &taken), Err(ChangeError::PeerUrlExists));
        assert_eq!(decide("vv", true, &add(2, true)), Err(ChangeError::IdExists));
        assert_eq!(decide("vv", true, &add(99, false)), Err(ChangeError::NotFound));
        // What the quorum forbids is said first.
        assert_eq!(decide("vvV", true, &taken), Err(ChangeError::Unhealthy));
    }

    #[test]
    fn members_are_removed_while_the_quorum_can_bear_it() {
        for (members, id, want) in [
            ("v", 1, Err(ChangeError::NotEnoughStarted)),
            ("vl", 2, Ok(())),
            ("vL", 2, Ok(())),
            ("vv", 2, Ok(())),
            ("vv", 1, Ok(())),
            ("vu", 1, Err(ChangeError::NotEnoughStarted)),
            ("vu", 2, Ok(())),
            ("vU", 2, Ok(())),
            ("vvv", 1, Ok(())),
            ("vvV", 3, Ok(())),
            ("vvV", 2, Err(ChangeError::Unhealthy)),
            ("vvV", 1, Err(ChangeError::Unhealthy)),
            ("vvvvV", 4, Ok(())),
            ("vvvVV", 3, Err(ChangeError::Unhealthy)),
            ("vvvVV", 4, Ok(())),
            ("vvv", 50, Err(ChangeError::NotFound)),
            ("v", 50, Err(ChangeError::NotFound)),
        ] {
            let change = Change::Remove { id };
            assert_eq!(decide(members, true, &change), want, "{members} {id}");
        }
        assert_eq!(decide("vvV", false, &Change::Remove { id: 2 }), Ok(()));
        let last = decide("vl", false, &Change::Remove { id: 1 });
        assert_eq!(last, Err(ChangeError::NotEnoughStarted));
    }

    #[test]
    fn learners_are_promoted_when_they_have_the_log() {
        for (members, id, want) in [
            ("vl", 2, Ok(())),
            ("vL", 2, Err(ChangeError::LearnerNotReady)),
            ("vv", 2, Err(ChangeError::NotLearner)),
            ("v", 1, Err(ChangeError::NotLearner)),
            ("v", 50, Err(ChangeError::NotFound)),
            ("vul", 3, Ok(())),
            ("vuul", 4, Err(ChangeError::NotEnoughStarted)),
        ] {
            assert_eq!(decide(members, true, &Change::Promote { id }), want, "{members} {id}");
        }
    }
}
