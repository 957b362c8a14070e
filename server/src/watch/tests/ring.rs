//! The ring holds the newest runs, whole, within its bytes.

use std::sync::Arc;

use store::mvcc::RevisionEvents;

use crate::watch::ring::{Ring, Run, run_bytes};

fn run(revisions: std::ops::RangeInclusive<i64>) -> Run {
    let revision = |main| Arc::new(RevisionEvents { main, events: Vec::new() });
    Arc::new(revisions.map(revision).collect())
}

fn push(ring: &mut Ring, run: Run) -> usize {
    ring.push(run_bytes(&run), run).len()
}

/// The revisions the ring gives from `revision` on.
fn from(ring: &Ring, revision: i64) -> Option<Vec<i64>> {
    let runs = ring.since(revision, usize::MAX)?;
    Some(runs.iter().flat_map(|(_, run)| run.iter()).map(|revision| revision.main).collect())
}

#[test]
fn gives_whole_runs_from_the_one_that_holds_a_revision() {
    let mut ring = Ring::new(4, usize::MAX);
    assert_eq!(from(&ring, 5), Some(vec![]));
    assert_eq!(from(&ring, 4), None);
    push(&mut ring, run(5..=7));
    push(&mut ring, run(8..=8));
    push(&mut ring, run(9..=10));
    assert_eq!(ring.last(), 10);
    assert_eq!(from(&ring, 4), None);
    assert_eq!(from(&ring, 5), Some(vec![5, 6, 7, 8, 9, 10]));
    assert_eq!(from(&ring, 6), from(&ring, 5));
    assert_eq!(from(&ring, 8), Some(vec![8, 9, 10]));
    assert_eq!(from(&ring, 11), Some(vec![]));
    assert_eq!(ring.since(6, 2).unwrap().len(), 2);
}

#[test]
fn old_runs_make_room() {
    let bytes = run_bytes(&run(2..=3));
    let mut ring = Ring::new(1, 2 * bytes);
    assert_eq!(push(&mut ring, run(2..=3)), 0);
    assert_eq!(push(&mut ring, run(4..=5)), 0);
    assert_eq!(push(&mut ring, run(6..=7)), 1);
    assert_eq!(from(&ring, 3), None);
    assert_eq!(from(&ring, 4), Some(vec![4, 5, 6, 7]));
    // One that is larger than the ring leaves nothing, not even itself.
    assert_eq!(push(&mut ring, run(8..=20)), 3);
    assert_eq!((from(&ring, 20), from(&ring, 21)), (None, Some(vec![])));
}

#[test]
fn restarts_after_a_jump() {
    let mut ring = Ring::new(1, usize::MAX);
    push(&mut ring, run(2..=3));
    assert_eq!(ring.restart(10).len(), 1);
    assert_eq!((from(&ring, 3), from(&ring, 10), from(&ring, 11)), (None, None, Some(vec![])));
    push(&mut ring, run(11..=11));
    assert_eq!(from(&ring, 11), Some(vec![11]));
}

#[test]
#[should_panic(expected = "revisions are published in order")]
fn a_gap_is_a_bug() {
    push(&mut Ring::new(1, usize::MAX), run(3..=3));
}
