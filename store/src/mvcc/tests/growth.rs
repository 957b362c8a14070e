//! What must stay cheap when there is much of it.

use std::ops::Bound;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use proto::etcdserverpb::{CompactionRequest, PutRequest};
use proto::internal::{Command, command::Op};

use super::Harness;
use crate::engine::{Engine, EngineStats, MemoryEngine, Reader, Visit, WriteBatch};
use crate::mvcc::StoreOptions;
use crate::mvcc::generations::Record;
use crate::mvcc::index::Index;
use crate::mvcc::store::Store;
use crate::{Fatal, Revision};

#[test]
fn the_index_costs_little_beyond_the_keys() {
    let random = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for order in [(|n| n) as fn(u64) -> u64, random] {
        let mut index = Index::new();
        let (mut key_bytes, keys) = (0, 100_000);
        for n in 0..keys {
            let key = format!("/registry/pods/default/pod-{:016x}", order(n));
            key_bytes += key.len();
            index.put(
                key.as_bytes(),
                Record::put(Revision::new(n as i64 + 2, 0), 256, false),
                None,
            );
        }
        let per_key = (index.heap_bytes() - key_bytes.min(index.heap_bytes())) / keys as usize;
        assert!(per_key <= 80, "{per_key} bytes a key");
    }
}

fn apply(store: &Store, op: Op) {
    super::apply_next(store, &Command::from(op));
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

/// An engine so slow that between any two looks into it somebody writes.
struct Slow {
    inner: MemoryEngine,
    writes_to: Arc<OnceLock<Weak<Store>>>,
}

struct SlowReader {
    inner: Box<dyn Reader>,
    writes_to: Arc<OnceLock<Weak<Store>>>,
}

const VALUE_BYTES: usize = 4096;

impl Reader for SlowReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        self.inner.get(key)
    }

    fn scan(&self, range: (Bound<&[u8]>, Bound<&[u8]>), visit: Visit<'_>) -> Result<(), Fatal> {
        if let Some(store) = self.writes_to.get().and_then(Weak::upgrade) {
            let (key, value) = (store.revision().to_be_bytes(), vec![1; VALUE_BYTES]);
            let put = PutRequest { key: key.to_vec(), value, ..Default::default() };
            apply(&store, Op::Put(put));
        }
        self.inner.scan(range, visit)
    }
}

impl Engine for Slow {
    fn reader(&self) -> Box<dyn Reader> {
        let writes_to = self.writes_to.clone();
        Box::new(SlowReader { inner: self.inner.reader(), writes_to })
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), Fatal> {
        self.inner.apply(batch)
    }

    fn delete_many(&self, keys: &[Bytes]) -> Result<(), Fatal> {
        self.inner.delete_many(keys)
    }

    fn flush(&self) -> Result<(), Fatal> {
        self.inner.flush()
    }

    fn maintain(&self) -> Result<(), Fatal> {
        self.inner.maintain()
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
}

#[test]
fn writes_beside_a_compaction_do_not_pile_up() {
    const RECENT_BYTES_MAX: usize = 16 * VALUE_BYTES;
    const STEP_WRITES: u64 = 4;
    let writes_to = Arc::new(OnceLock::new());
    let engine = Slow { inner: MemoryEngine::new(), writes_to: writes_to.clone() };
    let store = Arc::new(Store::open(Arc::new(engine), StoreOptions::default()).unwrap());
    for key in 0..20_000_u32 {
        let put = PutRequest { key: key.to_le_bytes().to_vec(), ..Default::default() };
        apply(&store, Op::Put(put));
    }
    store.checkpoint().unwrap();
    let revision = store.revision();
    apply(&store, Op::Compaction(CompactionRequest { revision, physical: false }));
    writes_to.set(Arc::downgrade(&store)).unwrap();
    let mut rounds = 0;
    while store.compact(RECENT_BYTES_MAX).unwrap() {
        let waiting = store.sizes().recent_bytes;
        assert!(waiting < RECENT_BYTES_MAX as u64 + STEP_WRITES * 2 * VALUE_BYTES as u64);
        store.checkpoint().unwrap();
        rounds += 1;
    }
    assert_eq!(store.compaction_finished(), revision);
    assert!(rounds > 3, "{} bytes were written meanwhile", store.sizes().live_bytes);
}
