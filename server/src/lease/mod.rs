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
use store::mvcc::Response;
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
    deadlines: Deadlines,
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
            *leading = Some(Leading { term, deadlines });
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
            _ => {}
        }
    }

    /// Leases to revoke in the term that is returned.
    pub fn due(&self, max: usize) -> Option<(u64, Vec<i64>)> {
        let mut leading = self.lock();
        let Leading { term, deadlines } = leading.as_mut()?;
        Some((*term, deadlines.due(max, Instant::now()))).filter(|(_, due)| !due.is_empty())
    }

    /// What is left of long leases, to be noted in the term that is returned.
    pub fn notes(&self, max: usize) -> Option<(u64, Vec<LeaseCheckpoint>)> {
        let mut leading = self.lock();
        let Leading { term, deadlines } = leading.as_mut()?;
        Some((*term, deadlines.notes(max, Instant::now()))).filter(|(_, notes)| !notes.is_empty())
    }

    /// Renews a lease, as the leader. Also says in which term, and for how many seconds.
    pub fn renew(&self, id: i64) -> Option<(u64, i64, Renewal)> {
        let mut leading = self.lock();
        let Leading { term, deadlines } = leading.as_mut()?;
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
