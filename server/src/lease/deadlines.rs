//! When leases end. Knows no clock: whoever asks says what time it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use proto::etcdserverpb::LeaseCheckpoint;
use store::mvcc::Lease;

use crate::limits;

/// All leases with their ends. Times are milliseconds since `began`, which an `Instant` would need
/// twice the memory for.
#[derive(Debug)]
pub struct Deadlines {
    began: Instant,
    leases: HashMap<i64, Deadline>,
    /// The same by their ends.
    order: BTreeSet<(u64, i64)>,
    /// Leases that ended, and when their revocation is to be tried again.
    revoking: BTreeMap<i64, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    end: u64,
    /// When it was renewed, or what is left of it noted, in seconds.
    since: u32,
    note: Note,
}

/// What the log says of what is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    None,
    /// It may come to say something.
    Proposed,
    Some,
}

/// What became of a wish to keep a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    Renewed,
    /// The log has to forget first what it says is left of the lease.
    Noted,
    /// It is being revoked, or a note is on its way: how that ends decides.
    Undecided,
    Unknown,
}

impl Deadlines {
    pub fn new(began: Instant) -> Self {
        Self { began, leases: HashMap::new(), order: BTreeSet::new(), revoking: BTreeMap::new() }
    }

    /// What a leader promises that was just elected: nobody knows when the one before it renewed a
    /// lease, so each gets all of its time anew, or what was noted of it, and `grace`.
    pub fn promised(leases: &[Lease], grace: Duration, now: Instant) -> Self {
        let mut deadlines = Self::new(now);
        deadlines.leases.reserve(leases.len());
        for lease in leases {
            let seconds = if lease.remaining > 0 { lease.remaining } else { lease.ttl };
            let lasts = Duration::from_secs(seconds.max(0).unsigned_abs()) + grace;
            let note = if lease.remaining > 0 { Note::Some } else { Note::None };
            deadlines.set(lease.id, lasts, note, now);
        }
        deadlines
    }

    /// What is surely past.
    fn past(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64
    }

    fn set(&mut self, id: i64, lasts: Duration, note: Note, now: Instant) {
        self.remove(id);
        let since = seconds_of(self.past(now));
        // Rounded up: no lease may end early.
        let end = self.past(now + lasts) + 1;
        self.leases.insert(id, Deadline { end, since, note });
        self.order.insert((end, id));
    }

    pub fn grant(&mut self, id: i64, ttl: i64, now: Instant) {
        self.set(id, seconds(ttl), Note::None, now);
    }

    pub fn remove(&mut self, id: i64) {
        if let Some(deadline) = self.leases.remove(&id) {
            self.order.remove(&(deadline.end, id));
            self.revoking.remove(&id);
        }
    }

    pub fn renew(&mut self, id: i64, ttl: i64, now: Instant) -> Renewal {
        match self.leases.get(&id) {
            None => Renewal::Unknown,
            Some(deadline) if deadline.end <= self.past(now) => Renewal::Undecided,
            Some(Deadline { note: Note::Proposed, .. }) => Renewal::Undecided,
            Some(Deadline { note: Note::Some, .. }) => Renewal::Noted,
            Some(Deadline { note: Note::None, .. }) => {
                self.set(id, seconds(ttl), Note::None, now);
                Renewal::Renewed
            }
        }
    }

    /// A note was applied, or never will be.
    pub fn settle_note(&mut self, id: i64) {
        if let Some(deadline) = self.leases.get_mut(&id) {
            deadline.note = Note::Some;
        }
    }

    /// The log no longer says what is left of a lease, unless a new note is on its way.
    pub fn forget_note(&mut self, id: i64) {
        if let Some(deadline) = self.leases.get_mut(&id)
            && deadline.note == Note::Some
        {
            deadline.note = Note::None;
        }
    }

    /// The log says what is left of a lease, by an earlier leader's word.
    pub fn noted(&mut self, id: i64) {
        if let Some(deadline) = self.leases.get_mut(&id)
            && deadline.note == Note::None
        {
            deadline.note = Note::Some;
        }
    }

    /// An earlier leader took its note back because the lease was renewed: promised anew.
    pub fn unnoted(&mut self, lease: &Lease, grace: Duration, now: Instant) {
        self.forget_note(lease.id);
        if let Some(Deadline { end, note, .. }) = self.leases.get(&lease.id).copied() {
            let since_then = self.past(now + seconds(lease.ttl) + grace) + 1;
            if since_then > end {
                self.set(lease.id, seconds(lease.ttl) + grace, note, now);
            }
        }
    }

    /// How much is left of a lease.
    pub fn left(&self, id: i64, now: Instant) -> Option<Duration> {
        let end = self.leases.get(&id)?.end;
        Some(Duration::from_millis(end.saturating_sub(self.past(now))))
    }

    /// Leases that ended and are to be revoked now, at most `max`, oldest first.
    pub fn due(&mut self, max: usize, now: Instant) -> Vec<i64> {
        let past = self.past(now);
        let ended = self.order.range(..=(past, i64::MAX)).map(|(_, id)| *id);
        let waits = |id: &i64| self.revoking.get(id).is_some_and(|again| *again > past);
        let due: Vec<i64> = ended.filter(|id| !waits(id)).take(max).collect();
        let again = past + limits::LEASE_REVOKE_RETRY.as_millis() as u64;
        self.revoking.extend(due.iter().map(|id| (*id, again)));
        due
    }

    /// Notes for the log of what is left of long leases that were not renewed for long, so that the
    /// next leader does not begin at the start with them.
    pub fn notes(&mut self, max: usize, now: Instant) -> Vec<LeaseCheckpoint> {
        let past = self.past(now);
        let interval = limits::LEASE_NOTE_INTERVAL.as_secs();
        let due = |deadline: &Deadline| {
            let since = u64::from(deadline.since);
            deadline.note != Note::Proposed
                && deadline.end > past
                && past / 1000 - since >= interval
                && deadline.end / 1000 - since > interval
        };
        let mut notes = Vec::new();
        for (id, deadline) in self.leases.iter_mut().filter(|(_, it)| due(it)).take(max) {
            (deadline.since, deadline.note) = (seconds_of(past), Note::Proposed);
            let remaining_ttl = (deadline.end - past).div_ceil(1000) as i64;
            notes.push(LeaseCheckpoint { id: *id, remaining_ttl });
        }
        notes
    }

    /// All leases, those first that end first.
    pub fn in_order(&self) -> Vec<i64> {
        self.order.iter().map(|(_, id)| *id).collect()
    }
}

/// Enough for a century.
fn seconds_of(millis: u64) -> u32 {
    u32::try_from(millis / 1000).unwrap_or(u32::MAX)
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(id: i64, ttl: i64, remaining: i64) -> Lease {
        Lease { id, ttl, remaining }
    }

    #[test]
    fn a_lease_ends_when_its_time_is_over_and_not_before() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        let granted = start + Duration::from_micros(1_999);
        deadlines.grant(7, 2, granted);
        assert!(deadlines.due(9, granted + 2 * SECOND - Duration::from_nanos(1)).is_empty());
        let ended = granted + 2 * SECOND + Duration::from_millis(2);
        assert_eq!(deadlines.renew(7, 2, ended), Renewal::Undecided);
        assert_eq!(deadlines.due(9, ended), [7]);
        // Once, and again when that came to nothing.
        assert!(deadlines.due(9, ended + 2 * SECOND).is_empty());
        assert_eq!(deadlines.due(9, ended + 3 * SECOND), [7]);
        deadlines.remove(7);
        assert_eq!(deadlines.renew(7, 2, ended), Renewal::Unknown);
        assert!(deadlines.due(9, ended + 9 * SECOND).is_empty());
    }

    #[test]
    fn a_renewed_lease_lasts_from_then_on() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        deadlines.grant(7, 10, start);
        assert_eq!(deadlines.renew(7, 10, start + 9 * SECOND), Renewal::Renewed);
        assert_eq!(deadlines.left(7, start + 10 * SECOND).unwrap().as_secs(), 9);
        assert!(deadlines.due(9, start + 18 * SECOND).is_empty());
        assert_eq!(deadlines.due(9, start + 20 * SECOND), [7]);
    }

    #[test]
    fn the_oldest_end_first_and_only_so_many_at_once() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        for id in 1..=9 {
            deadlines.grant(id, 10 - id, start);
        }
        assert_eq!(deadlines.in_order(), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(deadlines.due(2, start + 20 * SECOND), [9, 8]);
        assert_eq!(deadlines.due(2, start + 20 * SECOND), [7, 6]);
    }

    #[test]
    fn a_new_leader_promises_all_the_time_or_what_was_noted() {
        let start = Instant::now();
        let leases = [lease(1, 60, 0), lease(2, 600, 30)];
        let mut deadlines = Deadlines::promised(&leases, SECOND, start);
        assert_eq!(deadlines.left(1, start).unwrap().as_secs(), 61);
        assert_eq!(deadlines.left(2, start).unwrap().as_secs(), 31);
        // A note counts until the log forgets it.
        assert_eq!(deadlines.renew(2, 600, start), Renewal::Noted);
        deadlines.forget_note(2);
        assert_eq!(deadlines.renew(2, 600, start), Renewal::Renewed);
        assert_eq!(deadlines.left(2, start).unwrap().as_secs(), 600);
    }

    #[test]
    fn what_is_left_of_long_leases_is_noted_now_and_then() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        deadlines.grant(1, 300, start);
        deadlines.grant(2, 1000, start);
        assert!(deadlines.notes(9, start + 299 * SECOND).is_empty());
        let noted = deadlines.notes(9, start + 300 * SECOND);
        assert_eq!(noted, [LeaseCheckpoint { id: 2, remaining_ttl: 701 }]);
        assert!(deadlines.notes(9, start + 301 * SECOND).is_empty());
        assert_eq!(deadlines.renew(2, 1000, start + 400 * SECOND), Renewal::Undecided);
        deadlines.settle_note(2);
        assert_eq!(deadlines.renew(2, 1000, start + 400 * SECOND), Renewal::Noted);
        assert_eq!(deadlines.notes(9, start + 600 * SECOND).len(), 1);
        deadlines.settle_note(2);
        // What is left then is too short to be noted once more.
        let rest = deadlines.notes(9, start + 900 * SECOND);
        assert_eq!(rest, [LeaseCheckpoint { id: 2, remaining_ttl: 101 }]);
        assert!(deadlines.notes(9, start + 999 * SECOND).is_empty());
    }

    #[test]
    fn a_note_on_its_way_outlives_that_an_older_one_is_forgotten() {
        let start = Instant::now();
        let leases = [lease(7, 1000, 900)];
        let mut deadlines = Deadlines::promised(&leases, SECOND, start);
        // Its client renews it, and until that is in the log a new note is made.
        let now = start + 300 * SECOND;
        assert_eq!(deadlines.renew(7, 1000, now), Renewal::Noted);
        assert_eq!(deadlines.notes(9, now).len(), 1);
        deadlines.forget_note(7);
        assert_eq!(deadlines.renew(7, 1000, now), Renewal::Undecided);
        deadlines.settle_note(7);
        assert_eq!(deadlines.renew(7, 1000, now), Renewal::Noted);
        deadlines.forget_note(7);
        assert_eq!(deadlines.renew(7, 1000, now), Renewal::Renewed);
    }
}
