//! The rules one by one, where a name says more than a random run.

use proto::etcdserverpb::RangeRequest;

use super::{Harness, range, run};
use crate::Refusal;

#[test]
fn versions_revisions_and_historical_reads() {
    let mut harness = Harness::new();
    assert_eq!((harness.store.revision(), harness.store.compacted()), (1, -1));
    assert_eq!(harness.put(b"a", b"1"), 2);
    assert_eq!(harness.put(b"a", b"2"), 3);
    assert_eq!(harness.put(b"b", b"1"), 4);
    let all = RangeRequest { key: vec![0], range_end: vec![0], ..Default::default() };
    let now = range(&harness.store, &all).unwrap();
    assert_eq!((now.count, now.more, now.header.unwrap().revision), (2, false, 4));
    let a = now.kvs[0].parse().unwrap();
    assert_eq!((a.create_revision, a.mod_revision, a.version), (2, 3, 2));
    let then = range(&harness.store, &RangeRequest { revision: 2, ..all.clone() }).unwrap();
    assert_eq!(then.kvs[0].parse().unwrap().value, &b"1"[..]);
    assert_eq!(then.header.unwrap().revision, 4);
    let future = RangeRequest { revision: 5, ..all.clone() };
    assert_eq!(range(&harness.store, &future), Err(Refusal::FutureRevision));
    assert_eq!(harness.compact(5), Err(Refusal::FutureRevision));
    harness.compact(3).unwrap();
    assert_eq!(harness.compact(3), Err(Refusal::Compacted));
    let past = RangeRequest { revision: 2, ..all.clone() };
    assert_eq!(range(&harness.store, &past), Err(Refusal::Compacted));
    range(&harness.store, &RangeRequest { revision: 3, ..all }).unwrap();
}

#[test]
fn a_key_churned_between_two_checkpoints_costs_the_engine_one_row() {
    let mut harness = Harness::new();
    for round in 0..1_000_u32 {
        harness.put(b"lease", &round.to_be_bytes());
    }
    harness.compact(1_001).unwrap();
    harness.settle();
    assert!(harness.store.sizes().recent_bytes < 1_000);
    harness.store.checkpoint().unwrap();
    let mut rows = 0;
    crate::engine::Engine::reader(&harness.engine)
        .scan((std::ops::Bound::Unbounded, std::ops::Bound::Unbounded), &mut |_, _| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    // The meta row, a key row, a value row.
    assert_eq!(rows, 3);
}

/// Members compare it, whether or not they have come to it yet.
#[test]
fn the_hash_of_a_compaction_is_the_same_before_it_is_taken() {
    let mut harness = Harness::new();
    harness.put(b"a", b"1");
    // Keeps the row, and the next one leaves nothing.
    harness.compact(2).unwrap();
    harness.settle();
    harness.delete(b"a", b"");
    harness.compact(3).unwrap();
    let hash = || {
        let mut read = harness.store.hash_kv(3).unwrap();
        run(|| read.step()).unwrap()
    };
    assert_eq!(harness.store.compaction_hashes().len(), 1);
    let before = hash();
    harness.settle();
    let kept = harness.store.compaction_hashes()[0];
    assert_eq!((before, hash()), (kept, kept));
}
