//! What must stay cheap when there is much of it.

use super::Harness;
use crate::Revision;
use crate::mvcc::index::Index;
use crate::mvcc::store::Store;
use proto::etcdserverpb::{CompactionRequest, PutRequest};
use proto::internal::{Command, command::Op};

#[test]
fn the_index_costs_little_beyond_the_keys() {
    let random = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for order in [(|n| n) as fn(u64) -> u64, random] {
        let mut index = Index::new();
        let (mut key_bytes, keys) = (0, 100_000);
        for n in 0..keys {
            let key = format!("/registry/pods/default/pod-{:016x}", order(n));
            key_bytes += key.len();
            index.put(key.as_bytes(), Revision::new(n as i64 + 2, 0), 256, false);
        }
        let per_key = (index.heap_bytes() - key_bytes.min(index.heap_bytes())) / keys as usize;
        assert!(per_key <= 80, "{per_key} bytes a key");
    }
}

fn apply(store: &Store, op: Op) {
    super::apply_next(store, &Command { op: Some(op) });
}

#[test]
fn a_hot_key_is_not_quadratic() {
    let harness = Harness::new();
    let put = PutRequest { key: b"hot".to_vec(), value: vec![1; 8], ..Default::default() };
    for round in 0..40_i64 {
        for _ in 0..5_000 {
            apply(&harness.store, Op::Put(put.clone()));
        }
        if round % 10 == 9 {
            // Each compaction takes a bit off the front of a long history.
            let revision = harness.store.revision() - 30_000;
            apply(&harness.store, Op::Compaction(CompactionRequest { revision, physical: false }));
            harness.settle();
        }
    }
    let sizes = harness.store.sizes();
    assert_eq!(sizes.live_bytes, 3 + 8 + 24);
    assert_eq!(sizes.history_bytes, 30_000 * (3 + 8 + 24));
}
