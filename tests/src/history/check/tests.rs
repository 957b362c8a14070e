//! Good histories pass, and each way to break one is noticed: the checker is worth its name.

use super::*;
use crate::history::facts::{Compaction, Guard, Key, Operation, Value};

/// A store that does everything right, and the history of those who used it.
struct Server {
    state: State,
    revision: i64,
    /// All revisions since the beginning.
    all: Vec<Revision>,
    compacted: i64,
    round: Round,
    next_id: u64,
}

impl Server {
    fn new() -> Self {
        let (state, round) = (State::default(), Round::default());
        Self { state, revision: 1, all: Vec::new(), compacted: 0, round, next_id: 1 }
    }

    fn write(&mut self, guard: Option<Guard>, operations: Vec<Operation>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let mut write =
            Write { id, guard, operations, floor: self.revision, outcome: Outcome::Unknown };
        let events = self.state.effect(&write, self.revision + 1);
        write.outcome = match events.is_empty() {
            true => Outcome::Nothing(self.revision),
            false => {
                self.revision += 1;
                let revision = Revision { number: self.revision, events };
                self.state.apply(&revision);
                self.all.push(revision.clone());
                self.round.live.push(revision);
                Outcome::Applied(self.revision)
            }
        };
        self.round.writes.push(write);
        id
    }

    fn put(&mut self, key: Key) -> u64 {
        let value = Value { write: self.next_id, operation: 0, bytes: 100 };
        self.write(None, vec![Operation::Put { key, value }])
    }

    fn delete(&mut self, first: Key, last: Key) -> u64 {
        self.write(None, vec![Operation::Delete { first, last }])
    }

    fn read(&mut self, first: Key, last: Key) {
        self.round.reads.push(Read {
            range: (first, last),
            at: None,
            floor: self.revision,
            revision: self.revision,
            found: self.state.range((first, last)),
        });
    }

    fn compact(&mut self, revision: i64) {
        self.compacted = revision;
        self.round.compactions.push(Compaction { revision, acknowledged: true });
    }

    /// What a check would gather after a restart.
    fn end_round(&mut self) -> Round {
        let mut round = std::mem::take(&mut self.round);
        let from = |revision: &&Revision| revision.number >= self.compacted.max(2);
        round.replayed = self.all.iter().filter(from).cloned().collect();
        (round.compacted, round.fence) = (self.compacted, self.revision);
        round
    }

    /// Two puts, a transaction, a failed guard, deletions, a compaction, reads.
    fn busy_round(&mut self) -> Round {
        self.put(1);
        self.put(2);
        let value = |operation| Value { write: self.next_id, operation, bytes: 60 };
        let both = vec![
            Operation::Put { key: 3, value: value(0) },
            Operation::Delete { first: 1, last: 1 },
            Operation::Put { key: 4, value: value(1) },
        ];
        self.write(None, both);
        self.read(0, 9);
        self.compact(self.revision - 1);
        let put =
            Operation::Put { key: 1, value: Value { write: self.next_id, operation: 0, bytes: 9 } };
        self.write(Some(Guard { key: 2, modified: 999 }), vec![put]);
        self.delete(3, 7);
        self.delete(8, 9);
        self.read(2, 4);
        self.put(5);
        self.end_round()
    }
}

/// The second of two rounds, broken by `damage`, must give a problem that says `expected`.
#[track_caller]
fn check_broken(expected: &str, damage: impl FnOnce(&mut Round)) {
    let mut server = Server::new();
    let mut checker = Checker::new();
    checker.absorb(&server.busy_round()).unwrap();
    let mut round = server.busy_round();
    damage(&mut round);
    match checker.absorb(&round) {
        Ok(_) => panic!("nothing noticed, due: {expected}"),
        Err(problems) => {
            let said = problems.iter().any(|problem| problem.contains(expected));
            assert!(said, "'{expected}' is not in {problems:#?}");
        }
    }
}

/// Removes a revision from both watches, as if it had never been.
fn forget(round: &mut Round, number: i64) {
    for seen in [&mut round.live, &mut round.replayed] {
        seen.retain(|revision| revision.number != number);
        for revision in seen.iter_mut().filter(|revision| revision.number > number) {
            shift(revision);
        }
    }
    round.fence -= 1;
}

fn shift(revision: &mut Revision) {
    revision.number -= 1;
    for entry in revision.events.iter_mut().filter_map(|event| event.put.as_mut()) {
        entry.modified -= 1;
    }
}

fn last_applied(round: &mut Round) -> &mut Write {
    let applied = |write: &&mut Write| matches!(write.outcome, Outcome::Applied(_));
    round.writes.iter_mut().rfind(applied).unwrap()
}

#[test]
fn good_histories_pass() {
    let (mut server, mut checker) = (Server::new(), Checker::new());
    let mut total = Summary::default();
    for _ in 0..5 {
        total.add(&checker.absorb(&server.busy_round()).unwrap());
    }
    assert_eq!((total.acknowledged, total.reads, total.revisions), (35, 10, 25));
    assert_eq!(checker.upto(), server.revision);
}

#[test]
fn unanswered_writes_may_have_happened_or_not() {
    let (mut server, mut checker) = (Server::new(), Checker::new());
    server.put(1);
    server.put(2);
    server.delete(1, 1);
    let lost = Write {
        id: 900,
        guard: None,
        operations: vec![Operation::Delete { first: 2, last: 2 }],
        floor: 1,
        outcome: Outcome::Unknown,
    };
    let mut round = server.end_round();
    round.writes.iter_mut().for_each(|write| write.outcome = Outcome::Unknown);
    round.writes.push(lost);
    let summary = checker.absorb(&round).unwrap();
    assert_eq!((summary.unknown, summary.unknown_found), (4, 3));
}

#[test]
fn a_lost_write() {
    check_broken("is lost", |round| {
        let Outcome::Applied(revision) = last_applied(round).outcome else { unreachable!() };
        forget(round, revision);
    });
}

#[test]
fn a_write_lost_without_a_trace_of_its_revision() {
    check_broken("is missing", |round| {
        round.live.remove(1);
        round.replayed.retain(|revision| revision.number != round.live[0].number + 1);
    });
}

#[test]
fn a_revision_that_only_a_watcher_saw_is_gone() {
    check_broken("revision went back", |round| {
        round.writes.pop();
        round.replayed.pop();
        round.fence -= 1;
    });
}

#[test]
fn a_write_twice() {
    check_broken("was applied at", |round| {
        let mut again = round.replayed.last().unwrap().clone();
        again.number += 1;
        round.fence += 1;
        round.replayed.push(again);
    });
}

#[test]
fn an_unanswered_deletion_twice() {
    let (mut server, mut checker) = (Server::new(), Checker::new());
    server.put(1);
    server.delete(1, 1);
    server.put(1);
    server.delete(1, 1);
    let mut round = server.end_round();
    round.writes.pop();
    round.writes[1].outcome = Outcome::Unknown;
    let problems = checker.absorb(&round).unwrap_err();
    assert!(problems[0].contains("nobody wrote"), "{problems:?}");
}

#[test]
fn a_revision_out_of_nowhere() {
    check_broken("nobody wrote", |round| {
        last_applied(round).id += 1000;
    });
}

#[test]
fn a_write_of_an_earlier_round() {
    check_broken("nobody wrote", |round| {
        let last = round.replayed.last_mut().unwrap();
        last.events[0].put.as_mut().unwrap().value.write = 1;
        round.live.pop();
    });
}

#[test]
fn another_revision_than_the_acknowledged_one() {
    check_broken("was acknowledged at", |round| {
        let write = last_applied(round);
        let Outcome::Applied(revision) = write.outcome else { unreachable!() };
        write.outcome = Outcome::Applied(revision + 1);
    });
}

#[test]
fn one_revision_for_two_writes() {
    check_broken("were both given", |round| {
        let outcome = round.writes[0].outcome.clone();
        round.writes[1].outcome = outcome;
    });
}

#[test]
fn a_refused_write_that_happened() {
    check_broken("has Refused, but is at", |round| last_applied(round).outcome = Outcome::Refused);
}

#[test]
fn half_a_transaction() {
    check_broken("should be", |round| {
        for seen in [&mut round.live, &mut round.replayed] {
            let txn = seen.iter_mut().rfind(|revision| revision.events.len() == 3);
            txn.unwrap().events.pop();
        }
    });
}

#[test]
fn a_wrong_version() {
    check_broken("should be", |round| {
        for seen in [&mut round.live, &mut round.replayed] {
            seen.last_mut().unwrap().events[0].put.as_mut().unwrap().version += 1;
        }
    });
}

#[test]
fn history_that_changes() {
    check_broken("history has changed", |round| {
        round.replayed[0].events[0].put.as_mut().unwrap().version += 1;
    });
}

#[test]
fn a_watch_with_a_hole() {
    check_broken("the watch from the compacted revision shows", |round| {
        round.replayed.remove(1);
    });
}

#[test]
fn a_read_of_something_else() {
    check_broken("read of", |round| {
        round.reads[0].found.pop();
    });
    check_broken("read of", |round| round.reads[0].found[0].1.value.bytes += 1);
}

#[test]
fn a_stale_read() {
    check_broken("a read began after", |round| {
        round.reads[1].floor += 1;
    });
}

#[test]
fn a_stale_write() {
    check_broken("began after", |round| last_applied(round).floor += 10);
}

#[test]
fn a_guard_that_should_have_held() {
    check_broken("did nothing", |round| {
        let guarded = round.writes.iter_mut().find(|write| write.guard.is_some()).unwrap();
        guarded.guard = None;
    });
}

#[test]
fn a_compaction_that_is_lost_or_was_never_asked_for() {
    check_broken("is lost: the store says", |round| {
        let later = Compaction { revision: round.compacted + 1, acknowledged: true };
        round.compactions.push(later);
    });
    check_broken("which nobody asked for", |round| round.compactions.clear());
}

#[test]
fn a_revision_in_an_answer_that_the_history_does_not_reach() {
    check_broken("the history is", |round| round.reads[0].revision += 100);
}

/// One round, then `damage` to what a watch of one member saw of the next.
#[track_caller]
fn check_broken_watch(expected: &str, damage: impl FnOnce(&mut Watched)) {
    check_broken(expected, |round| {
        let mut watched = Watched {
            who: "the watch of member 2".to_owned(),
            from: round.live[0].number,
            revisions: round.live.clone(),
            is_cut_short: false,
        };
        damage(&mut watched);
        round.watched.push(watched);
    });
}

#[test]
fn a_member_that_shows_something_else() {
    check_broken_watch("history has changed", |watched| {
        watched.revisions[1].events[0].put.as_mut().unwrap().version += 1;
    });
    check_broken_watch("the watch of member 2 shows", |watched| {
        watched.revisions.remove(1);
    });
    check_broken_watch("the watch of member 2 shows", |watched| {
        let again = watched.revisions[1].clone();
        watched.revisions.insert(1, again);
    });
    check_broken_watch("the watch of member 2 ends at", |watched| {
        watched.revisions.pop();
    });
}

#[test]
fn a_write_of_an_earlier_round_at_one_of_several_members() {
    let mut server = Server::new();
    let mut checker = Checker::patient();
    server.put(1);
    let mut round = server.end_round();
    let late = Write { outcome: Outcome::Unknown, id: 900, ..round.writes[0].clone() };
    let late = Write { operations: vec![Operation::Delete { first: 1, last: 1 }], ..late };
    round.writes.push(late);
    checker.absorb(&round).unwrap();
    server.delete(1, 1);
    let mut round = server.end_round();
    round.writes.clear();
    checker.absorb(&round).unwrap();
    // Once, and not again.
    server.put(1);
    server.delete(1, 1);
    let mut round = server.end_round();
    round.writes.pop();
    let problems = checker.absorb(&round).unwrap_err();
    assert!(problems[0].contains("nobody wrote"), "{problems:?}");
}
