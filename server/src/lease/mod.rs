//! Leases in time. The store knows which there are; when one ends, only the leader knows.
//!
//! - The leader counts on its monotonic clock and in memory. What ended it proposes to revoke; the
//!   command counts only in an entry of its own term, so a leader that was deposed revokes nothing.
//! - A lease is renewed in the leader's memory, after a round has confirmed that it leads, and
//!   before the client hears of it. Nothing is written.
//! - A new leader does not know when a lease was renewed last, so each gets all of its time anew and
//!   an election timeout: late at most, never early.
//! - Lest long leases live for ever where leaders change often, what is left of them is noted in the
//!   log every few minutes; a client that renews such a lease waits until the note is gone again.
//! - Entries of earlier terms may be applied after the election, notes and their ends among them. Until
//!   all are, a new leader ends no lease and notes nothing.
//!
//! This folder knows what leases are due; `raft/leases.rs` confirms, proposes, and asks the leader.

mod deadlines;

pub use deadlines::Renewal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadlines::Deadlines;
use proto::etcdserverpb::LeaseCheckpoint;
use proto::internal::{Command, command::Op};
use store::Refusal;
use store::mvcc::{Lease, Response};
use tokio::sync::oneshot;

use crate::metrics::METRICS;
use crate::replica::{Current, Unavailable};

/// What a client wants of the leader about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Renew(i64),
    TimeToLive(i64),
}

/// What the leader says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Seconds that are left; `None` if there is no such lease.
    pub ttl: Option<i64>,
    pub granted: i64,
}

/// A question on its way.
#[derive(Debug)]
pub struct Call {
    pub ask: Ask,
    /// Another member asks: this one leads, or says that it does not.
    pub from_peer: bool,
    pub answer: oneshot::Sender<Result<Told, Unavailable>>,
}

/// Shared by what applies, what asks, and what keeps the time.
pub struct Lessor {
    current: Arc<Current>,
    /// As long as this member leads.
    leading: Mutex<Option<Leading>>,
}

#[derive(Debug)]
struct Leading {
    term: u64,
    /// What each lease has beside its time, because it is not known when it was renewed.
    grace: Duration,
    deadlines: Deadlines,
}

impl Leading {
    /// A note of an earlier leader was applied, which leaves the lease like this.
    fn inherit(&mut self, lease: Lease, now: Instant) {
        match lease.remaining {
            // Its client may have been told that it was renewed.
            0 => self.deadlines.unnoted(&lease, self.grace, now),
            _ => self.deadlines.noted(lease.id),
        }
    }
}

impl Lessor {
    pub fn new(current: Arc<Current>) -> Self {
        Self { current, leading: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Leading>> {
        self.leading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This member leads in `term`: what it promises begins now.
    pub fn lead(&self, term: u64, grace: Duration) {
        let mut leading = self.lock();
        if leading.as_ref().is_none_or(|leading| leading.term != term) {
            // Read under the lock, which whatever is applied meanwhile waits for.
            let leases = self.current.load().leases();
            let deadlines = Deadlines::promised(&leases, grace, Instant::now());
            *leading = Some(Leading { term, grace, deadlines });
        }
    }

    /// Somebody else leads, or nobody.
    pub fn stop_leading(&self) {
        *self.lock() = None;
    }

    /// A command about a lease was applied.
    pub fn applied(&self, command: &Command, outcome: &Result<Response, Refusal>) {
        match (&command.op, outcome) {
            (_, Ok(Response::LeaseGrant(granted))) => {
                if let Some(leading) = &mut *self.lock() {
                    leading.deadlines.grant(granted.id, granted.ttl, Instant::now());
                }
            }
            (Some(Op::LeaseRevoke(revoke)), Ok(Response::LeaseRevoke(_))) => {
                if let Some(leading) = &mut *self.lock() {
                    leading.deadlines.remove(revoke.id);
                }
            }
            (Some(Op::LeaseCheckpoint(notes)), Ok(_)) => {
                let mut leading = self.lock();
                // Whoever proposed one in this term hears of it by itself.
                let Some(leading) = leading.as_mut().filter(|it| it.term != command.only_in_term)
                else {
                    return;
                };
                let store = self.current.load();
                let noted = notes.checkpoints.iter().filter_map(|note| store.lease(note.id));
                noted.for_each(|lease| leading.inherit(lease, Instant::now()));
            }
            _ => {}
        }
    }

    /// Leases to revoke in the term that is returned.
    pub fn due(&self, max: usize) -> Option<(u64, Vec<i64>)> {
        self.due_at(max, Instant::now())
    }

    fn due_at(&self, max: usize, now: Instant) -> Option<(u64, Vec<i64>)> {
        let mut leading = self.lock();
        let leading = leading.as_mut().filter(|leading| self.has_caught_up(leading))?;
        Some((leading.term, leading.deadlines.due(max, now))).filter(|(_, due)| !due.is_empty())
    }

    /// What is left of long leases, to be noted in the term that is returned.
    pub fn notes(&self, max: usize) -> Option<(u64, Vec<LeaseCheckpoint>)> {
        let mut leading = self.lock();
        let leading = leading.as_mut().filter(|leading| self.has_caught_up(leading))?;
        let notes = leading.deadlines.notes(max, Instant::now());
        Some((leading.term, notes)).filter(|(_, notes)| !notes.is_empty())
    }

    /// Entries of earlier terms are applied: until then one may come that gives a lease more time.
    fn has_caught_up(&self, leading: &Leading) -> bool {
        self.current.load().applied().term >= leading.term
    }

    /// Renews a lease, as the leader. Also says in which term, and for how many seconds.
    pub fn renew(&self, id: i64) -> Option<(u64, i64, Renewal)> {
        let mut leading = self.lock();
        let Leading { term, deadlines, .. } = leading.as_mut()?;
        let Some(lease) = self.current.load().lease(id) else {
            return Some((*term, 0, Renewal::Unknown));
        };
        METRICS.leases.renewed.add(1);
        Some((*term, lease.ttl, deadlines.renew(id, lease.ttl, Instant::now())))
    }

    /// It is known what became of notes of this term.
    pub fn settle_notes(&self, term: u64, ids: impl IntoIterator<Item = i64>) {
        let mut leading = self.lock();
        if let Some(leading) = leading.as_mut().filter(|leading| leading.term == term) {
            ids.into_iter().for_each(|id| leading.deadlines.settle_note(id));
        }
    }

    /// Notes were taken back in this term, if that was still the term.
    pub fn forget_notes(&self, term: u64, ids: impl IntoIterator<Item = i64>) {
        let mut leading = self.lock();
        let Some(leading) = leading.as_mut().filter(|leading| leading.term == term) else { return };
        let store = self.current.load();
        let noted = |id: i64| store.lease(id).is_some_and(|lease| lease.remaining != 0);
        let forgotten = ids.into_iter().filter(|id| !noted(*id));
        forgotten.for_each(|id| leading.deadlines.forget_note(id));
    }

    /// What is to be said of a lease, as the leader.
    pub fn time_to_live(&self, id: i64) -> Option<Told> {
        let store = self.current.load();
        let left = self.lock().as_ref()?.deadlines.left(id, Instant::now());
        let Some((lease, left)) = store.lease(id).zip(left) else { return Some(Told::default()) };
        Some(Told { ttl: Some(left.as_secs() as i64), granted: lease.ttl })
    }

    /// All leases this member knows; at the leader those first that end first.
    pub fn list(&self) -> Vec<i64> {
        match &*self.lock() {
            Some(leading) => leading.deadlines.in_order(),
            None => self.current.load().leases().iter().map(|lease| lease.id).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::{LeaseCheckpointRequest, LeaseGrantRequest};
    use store::LogId;
    use store::engine::MemoryEngine;
    use store::mvcc::{Input, Store, StoreOptions};

    const ID: i64 = 7;
    const TTL: i64 = 1000;

    /// What a member applies, with a lease that an earlier leader noted something of.
    struct Member {
        lessor: Lessor,
    }

    impl Member {
        fn new(noted: i64) -> Self {
            let store =
                Store::open(Arc::new(MemoryEngine::default()), StoreOptions::default()).unwrap();
            let member = Self { lessor: Lessor::new(Arc::new(Current::new(store))) };
            member.apply(1, Op::LeaseGrant(LeaseGrantRequest { id: ID, ttl: TTL }));
            member.note(1, noted);
            member
        }

        /// A command that counts in `term` only, in an entry of that term.
        fn apply(&self, term: u64, op: Op) {
            let command = Command { only_in_term: term, ..Command::from(op) };
            let outcome = self.enter(term, Input::Command(&command));
            self.lessor.applied(&command, &outcome);
        }

        fn enter(&self, term: u64, input: Input<'_>) -> Result<Response, Refusal> {
            let store = self.lessor.current.load();
            let id = LogId { term, index: store.applied().index + 1 };
            store.apply(id, input).unwrap().outcome
        }

        fn note(&self, term: u64, remaining_ttl: i64) {
            let checkpoints = vec![LeaseCheckpoint { id: ID, remaining_ttl }];
            self.apply(term, Op::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints }));
        }

        fn left(&self) -> i64 {
            self.lessor.time_to_live(ID).unwrap().ttl.unwrap()
        }

        fn renew(&self) -> Renewal {
            self.lessor.renew(ID).unwrap().2
        }
    }

    #[test]
    fn a_note_taken_back_before_the_election_counts_when_it_is_applied_after_it() {
        let member = Member::new(5);
        member.lessor.lead(2, Duration::ZERO);
        assert!(member.left() <= 5);
        // The client was told that it has all of the time.
        member.note(1, 0);
        assert!(member.left() > TTL / 2, "{}", member.left());
        assert_eq!(member.renew(), Renewal::Renewed);
    }

    #[test]
    fn a_note_from_before_the_election_is_taken_back_though_it_is_applied_after_it() {
        let member = Member::new(0);
        member.lessor.lead(2, Duration::ZERO);
        member.note(1, 5);
        assert_eq!(member.renew(), Renewal::Noted);
        assert!(member.left() > TTL / 2, "late at most");
        member.note(2, 0);
        assert_eq!(member.renew(), Renewal::Noted);
        member.lessor.forget_notes(2, [ID]);
        assert_eq!(member.renew(), Renewal::Renewed);
    }

    #[test]
    fn a_new_leader_ends_nothing_before_it_has_applied_what_others_left() {
        let member = Member::new(5);
        member.lessor.lead(2, Duration::ZERO);
        let ended = Instant::now() + Duration::from_secs(60);
        assert_eq!(member.lessor.due_at(9, ended), None);
        member.note(1, 0);
        assert_eq!(member.lessor.due_at(9, ended), None);
        member.enter(2, Input::Blank).unwrap();
        assert_eq!(member.lessor.due_at(9, ended), None);
        let ended = ended + Duration::from_secs(TTL.unsigned_abs());
        assert_eq!(member.lessor.due_at(9, ended), Some((2, vec![ID])));
    }
}
