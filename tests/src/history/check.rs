//! The checker: decides whether a history keeps what was promised.
//!
//! The watches of a round give every revision with its events. Each revision must be the effect of
//! exactly one write on the state before it, computed by [`State`]. Then:
//!
//! - every acknowledged write is found at the revision that was acknowledged;
//! - a write without an answer is found at most once, and, with a single member, not later than
//!   its round;
//! - nothing is found that nobody wrote;
//! - revisions have no holes, never change, and never go back over a crash;
//! - every read and every write without effect fits the state at the revision it was given;
//! - whoever calls after somebody was told of a revision gets nothing older (writes: something
//!   newer);
//! - a compaction that was acknowledged holds, and nobody compacted what was not asked for.
//!
//! It knows nothing of the server, and asks nothing of it but its answers.

use std::collections::{BTreeMap, HashMap};

use crate::history::facts::{Entry, Key, Outcome, Read, Revision, Round, Watched, Write, key_text};
use crate::history::model::State;

#[cfg(test)]
mod tests;

/// What holds since the first round.
#[derive(Debug, Default)]
pub struct Checker {
    /// The state at `base`, below which nobody can look.
    state: State,
    base: i64,
    /// The revisions from `base` to `upto`, both included.
    kept: Vec<Revision>,
    upto: i64,
    /// Whether what has no answer may happen rounds later, and what that may be.
    is_patient: bool,
    open: Vec<Write>,
    open_compactions: Vec<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub acknowledged: u64,
    pub unknown: u64,
    pub unknown_found: u64,
    pub refused: u64,
    pub reads: u64,
    pub revisions: u64,
}

impl Summary {
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.unknown_found += other.unknown_found;
        self.refused += other.refused;
        self.reads += other.reads;
        self.revisions += other.revisions;
    }
}

impl Checker {
    /// For a store that nobody has written to.
    pub fn new() -> Self {
        Self { base: 1, upto: 1, ..Self::default() }
    }

    /// The same for several members: what one was asked may lie in a network that is cut, or with
    /// a process that is paused, and happen when they come back.
    pub fn patient() -> Self {
        Self { is_patient: true, ..Self::new() }
    }

    /// The newest revision that was checked.
    pub fn upto(&self) -> i64 {
        self.upto
    }

    /// Checks a round and remembers it.
    ///
    /// # Errors
    /// What is wrong, a line each.
    pub fn absorb(&mut self, round: &Round) -> Result<Summary, Vec<String>> {
        let mut problems = Vec::new();
        self.check_compaction(round, &mut problems);
        let new = self.join_watches(round, &mut problems);
        let mut pass = Pass::new(round, &self.open);
        let mut state = self.state.clone();
        let mut next_base = (round.compacted <= self.base).then(|| state.clone());
        pass.look(&state, self.base);
        for (revision, is_new) in
            self.kept.iter().map(|r| (r, false)).chain(new.iter().map(|r| (r, true)))
        {
            if revision.number <= self.base {
                continue;
            }
            if is_new {
                pass.attribute(&state, revision);
            }
            state.apply(revision);
            pass.look(&state, revision.number);
            if revision.number == round.compacted {
                next_base = Some(state.clone());
            }
        }
        let (summary, open) = pass.finish(self.upto, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        if self.is_patient {
            self.open = open;
            let asked = round.compactions.iter().filter(|asked| !asked.acknowledged);
            self.open_compactions.extend(asked.map(|asked| asked.revision));
        }
        self.state = next_base.expect("the compacted revision is one of the history");
        self.base = self.base.max(round.compacted);
        self.upto = round.fence;
        self.kept.extend(new);
        let base = self.base;
        self.kept.retain(|revision| revision.number >= base);
        Ok(summary)
    }

    fn known(&self, number: i64) -> Option<&Revision> {
        let place = number - self.kept.first()?.number;
        self.kept.get(usize::try_from(place).ok()?)
    }

    fn check_compaction(&self, round: &Round, problems: &mut Vec<String>) {
        let known = if self.base > 1 { self.base } else { 0 };
        let found = round.compacted;
        let asked = round.compactions.iter().map(|asked| asked.revision);
        if found != known && !asked.chain(self.open_compactions.clone()).any(|at| at == found) {
            problems.push(format!("compacted at {found}, which nobody asked for (was {known})"));
        }
        let acknowledged = round.compactions.iter().filter(|asked| asked.acknowledged);
        let newest = acknowledged.map(|asked| asked.revision).max().unwrap_or(0).max(known);
        if found < newest {
            problems.push(format!("compaction at {newest} is lost: the store says {found}"));
        }
        if found > round.fence {
            problems.push(format!("compacted at {found}, but the store ends at {}", round.fence));
        }
    }

    /// The revisions behind `upto`, from both watches, which must agree with each other and with
    /// what was seen in earlier rounds.
    fn join_watches(&self, round: &Round, problems: &mut Vec<String>) -> Vec<Revision> {
        check_steps("the watch during the round", &round.live, self.upto + 1, problems);
        let start = round.compacted.max(2);
        check_steps("the watch from the compacted revision", &round.replayed, start, problems);
        let mut new: BTreeMap<i64, &Revision> = BTreeMap::new();
        for watched in &round.watched {
            self.check_watched(watched, round, problems);
        }
        let watched = round.watched.iter().flat_map(|watched| &watched.revisions);
        for revision in round.live.iter().chain(watched).chain(&round.replayed) {
            let first = match revision.number {
                number if number > self.upto => *new.entry(number).or_insert(revision),
                number => match self.known(number) {
                    Some(known) => known,
                    None => continue,
                },
            };
            if first != revision {
                problems.push(format!("history has changed: {first} became {revision}"));
            }
        }
        for number in self.upto + 1..=round.fence {
            if !new.contains_key(&number) {
                problems.push(format!("revision {number} is missing"));
            }
        }
        if let Some((last, _)) = new.last_key_value().filter(|(last, _)| **last > round.fence) {
            problems
                .push(format!("revision went back: {last} was seen, now it is {}", round.fence));
        }
        new.into_values().filter(|revision| revision.number <= round.fence).cloned().collect()
    }
}

impl Checker {
    /// A watch of a member sees everything once and in order, from the last check to the fence,
    /// but for what was compacted before it got there.
    fn check_watched(&self, watched: &Watched, round: &Round, problems: &mut Vec<String>) {
        let Watched { who, from, revisions, is_cut_short } = watched;
        check_steps(who, revisions, *from, problems);
        if *from > self.upto + 1 && *from > round.compacted {
            problems.push(format!("{who} begins at {from}, due {}", self.upto + 1));
        }
        let end = revisions.last().map_or(*from - 1, |revision| revision.number);
        if end < round.fence && !is_cut_short {
            problems.push(format!("{who} ends at {end}, the history at {}", round.fence));
        }
    }
}

fn check_steps(who: &str, seen: &[Revision], start: i64, problems: &mut Vec<String>) {
    for (revision, expected) in seen.iter().zip(start..) {
        if revision.number != expected {
            problems.push(format!("{who} shows {} where {expected} is due", revision.number));
            return;
        }
    }
}

/// One walk over a history.
struct Pass<'a> {
    round: &'a Round,
    /// Unanswered writes of earlier rounds.
    open: &'a [Write],
    by_id: HashMap<u64, &'a Write>,
    by_revision: HashMap<i64, &'a Write>,
    /// Reads and writes without effect, by the revision whose state they must fit.
    reads_at: HashMap<i64, Vec<&'a Read>>,
    nothing_at: HashMap<i64, Vec<&'a Write>>,
    /// Where each write was found.
    found: HashMap<u64, i64>,
    looked: u64,
    revisions: u64,
    problems: Vec<String>,
}

impl<'a> Pass<'a> {
    fn new(round: &'a Round, open: &'a [Write]) -> Self {
        let mut pass = Self {
            round,
            open,
            by_id: open.iter().chain(&round.writes).map(|write| (write.id, write)).collect(),
            by_revision: HashMap::new(),
            reads_at: HashMap::new(),
            nothing_at: HashMap::new(),
            found: HashMap::new(),
            looked: 0,
            revisions: 0,
            problems: Vec::new(),
        };
        for write in &round.writes {
            match write.outcome {
                Outcome::Applied(revision) => {
                    if let Some(other) = pass.by_revision.insert(revision, write) {
                        let (one, two) = (other.id, write.id);
                        let what = format!("writes {one} and {two} were both given {revision}");
                        pass.problems.push(what);
                    }
                }
                Outcome::Nothing(revision) => {
                    pass.nothing_at.entry(revision).or_default().push(write);
                }
                Outcome::Refused | Outcome::Unknown => {}
            }
        }
        for read in &round.reads {
            pass.reads_at.entry(read.at.unwrap_or(read.revision)).or_default().push(read);
        }
        pass
    }

    /// Finds the one write that explains a revision.
    fn attribute(&mut self, before: &State, revision: &Revision) {
        self.revisions += 1;
        let number = revision.number;
        let Some(write) = self.author(before, revision) else {
            self.problems.push(format!("nobody wrote {revision}"));
            return;
        };
        if let Some(first) = self.found.insert(write.id, number) {
            self.problems.push(format!("write {} was applied at {first} and {number}", write.id));
        }
        match write.outcome {
            Outcome::Applied(told) if told != number => {
                let id = write.id;
                self.problems
                    .push(format!("write {id} was acknowledged at {told}, is at {number}"));
            }
            Outcome::Nothing(_) | Outcome::Refused => {
                let (id, outcome) = (write.id, &write.outcome);
                self.problems.push(format!("write {id} has {outcome:?}, but is at {number}"));
            }
            Outcome::Applied(_) | Outcome::Unknown => {}
        }
        if number <= write.floor {
            let (id, floor) = (write.id, write.floor);
            self.problems.push(format!("write {id} began after {floor}, but is at {number}"));
        }
        let expected = before.effect(write, number);
        if expected != revision.events {
            let expected = Revision { number, events: expected };
            self.problems.push(format!("{revision} should be {expected}"));
        }
    }

    fn author(&self, before: &State, revision: &Revision) -> Option<&'a Write> {
        // A value names its write.
        let named = revision.events.iter().find_map(|event| event.put);
        if let Some(entry) = named {
            return self.by_id.get(&entry.value.write).copied();
        }
        if let Some(write) = self.by_revision.get(&revision.number) {
            return Some(write);
        }
        // Only deletions, and nobody was told: any unanswered one that would do the same.
        let same = |write: &&Write| {
            write.outcome == Outcome::Unknown
                && write.floor < revision.number
                && !self.found.contains_key(&write.id)
                && before.effect(write, revision.number) == revision.events
        };
        self.open.iter().chain(&self.round.writes).find(same)
    }

    /// Compares what was answered with the state at `revision`.
    fn look(&mut self, state: &State, revision: i64) {
        for read in self.reads_at.remove(&revision).unwrap_or_default() {
            self.looked += 1;
            let expected = state.range(read.range);
            if expected != read.found {
                let difference = difference(&expected, &read.found);
                let (first, last) = read.range;
                let what = format!("read of {first} to {last} at {revision}: {difference}");
                self.problems.push(what);
            }
            if read.revision < read.floor {
                let (floor, got) = (read.floor, read.revision);
                self.problems.push(format!("a read began after {floor} and was answered at {got}"));
            }
        }
        for write in self.nothing_at.remove(&revision).unwrap_or_default() {
            let missed = state.effect(write, revision + 1);
            if !missed.is_empty() {
                let missed = Revision { number: revision + 1, events: missed };
                let what = format!("write {} did nothing at {revision}, due: {missed}", write.id);
                self.problems.push(what);
            }
            if revision < write.floor {
                let (id, floor) = (write.id, write.floor);
                self.problems.push(format!("write {id} began after {floor}, answered {revision}"));
            }
        }
    }

    /// What was found, and which writes may still happen.
    fn finish(mut self, upto: i64, problems: &mut Vec<String>) -> (Summary, Vec<Write>) {
        let fence = self.round.fence;
        for write in &self.round.writes {
            let Outcome::Applied(revision) = write.outcome else { continue };
            if !self.found.contains_key(&write.id) {
                let (id, what) = (write.id, &write.operations);
                let what = format!("write {id}, acknowledged at {revision}, is lost: {what:?}");
                self.problems.push(what);
            }
        }
        // Whatever is left was answered at a revision outside of the history.
        let writes = self.nothing_at.keys().map(|at| ("a write", at));
        for (who, at) in self.reads_at.keys().map(|at| ("a read", at)).chain(writes) {
            let what = format!("{who} was answered at {at}; the history is {upto} to {fence}");
            self.problems.push(what);
        }
        problems.append(&mut self.problems);
        let writes = self.open.iter().chain(&self.round.writes);
        let is_open = |write: &&Write| {
            write.outcome == Outcome::Unknown && !self.found.contains_key(&write.id)
        };
        (self.count(), writes.filter(is_open).cloned().collect())
    }

    fn count(&self) -> Summary {
        let mut summary =
            Summary { reads: self.looked, revisions: self.revisions, ..Summary::default() };
        for write in &self.round.writes {
            match write.outcome {
                Outcome::Applied(_) | Outcome::Nothing(_) => summary.acknowledged += 1,
                Outcome::Refused => summary.refused += 1,
                Outcome::Unknown => {
                    summary.unknown += 1;
                    summary.unknown_found += u64::from(self.found.contains_key(&write.id));
                }
            }
        }
        summary
    }
}

/// The first place where two answers differ, for people.
fn difference(expected: &[(Key, Entry)], found: &[(Key, Entry)]) -> String {
    let place = expected.iter().zip(found).take_while(|(one, two)| one == two).count();
    let show = |side: &[(Key, Entry)]| match side.get(place) {
        Some((key, entry)) => format!("{} {entry}", key_text(*key)),
        None => "nothing".to_owned(),
    };
    format!("{} instead of {}", show(found), show(expected))
}
