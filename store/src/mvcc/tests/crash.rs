//! A checkpoint cut off at every call it makes to the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::Harness;
use crate::Fatal;
use crate::engine::{Engine, EngineStats, MemoryEngine, Reader, WriteBatch};
use crate::mvcc::{Store, StoreOptions};

/// Fails every call after the first few.
struct Failing {
    inner: MemoryEngine,
    calls_left: AtomicUsize,
}

impl Failing {
    fn call(&self) -> Result<(), Fatal> {
        let left = self.calls_left.load(Ordering::Relaxed);
        self.calls_left.store(left.saturating_sub(1), Ordering::Relaxed);
        match left {
            0 => Err(Fatal::Engine("cut off".into())),
            _ => Ok(()),
        }
    }
}

impl Engine for Failing {
    fn reader(&self) -> Box<dyn Reader> {
        self.inner.reader()
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), Fatal> {
        self.call().and_then(|()| self.inner.apply(batch))
    }

    fn delete_many(&self, keys: &[Bytes]) -> Result<(), Fatal> {
        self.call().and_then(|()| self.inner.delete_many(keys))
    }

    fn flush(&self) -> Result<(), Fatal> {
        self.call().and_then(|()| self.inner.flush())
    }

    fn maintain(&self) -> Result<(), Fatal> {
        self.call().and_then(|()| self.inner.maintain())
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
}

/// A history whose second checkpoint writes, removes, and has to get the order right: a key
/// deleted and compacted away, one overwritten, one that began anew, one that is large.
fn history(engine: MemoryEngine) -> Harness {
    let mut harness = Harness::new();
    harness.engine = engine;
    harness.store = super::open(&harness.engine);
    for key in [b"a", b"b", b"c", b"d"] {
        harness.put(key, b"first");
        harness.put(key, &[7; 10_000]);
    }
    harness.delete(b"a", b"");
    harness.store.checkpoint().unwrap();
    harness.put(b"b", b"second");
    harness.delete(b"c", b"d");
    harness.put(b"c", b"anew");
    harness.put(b"e", &vec![1; 550 << 10]);
    harness.put(b"f", &vec![2; 550 << 10]);
    let compacted = harness.model.revision - 1;
    harness.compact(compacted).unwrap();
    harness.settle();
    harness.put(b"b", b"third");
    harness
}

#[test]
fn a_checkpoint_cut_off_anywhere_loses_nothing() {
    for calls in 0.. {
        let mut harness = history(MemoryEngine::new());
        // The same engine, which now fails after some calls.
        let failing =
            Failing { inner: harness.engine.clone(), calls_left: AtomicUsize::new(calls) };
        let store = Store::open(Arc::new(failing), StoreOptions::default()).unwrap();
        let applied = store.applied().index as usize;
        for command in &harness.log[applied..] {
            super::apply_next(&store, command);
        }
        while store.compact_step().unwrap() {}
        let complete = store.checkpoint().is_ok();
        for kept in 0..=harness.engine.unflushed() {
            let left = harness.engine.after_crash(kept);
            harness.reopen(left);
            harness.check_all();
            harness.settle();
            harness.check_all();
            // And what it left behind does no harm later.
            harness.store.checkpoint().unwrap();
            let again = harness.engine.after_crash(0);
            harness.reopen(again);
            harness.check_all();
        }
        if complete {
            return;
        }
    }
}

#[test]
fn damage_in_the_engine_is_fatal_to_a_read() {
    let mut harness = Harness::new();
    harness.put(b"key", b"value");
    harness.store.checkpoint().unwrap();
    let mut rows = Vec::new();
    let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    harness
        .engine
        .reader()
        .scan(everything, &mut |key, row| {
            rows.push((Bytes::copy_from_slice(key), row.to_vec()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    for (key, mut row) in rows {
        let mut batch = WriteBatch::default();
        row[0] ^= 1;
        batch.put(key.clone(), row.clone());
        let damaged = harness.engine.after_crash(usize::MAX);
        damaged.apply(batch).unwrap();
        let opened = Store::open(Arc::new(damaged.clone()), StoreOptions::default());
        match key[0] {
            // Values are not read to open.
            0xF0 => {
                let opened = opened.unwrap();
                let at = crate::Revision::new(2, 0);
                assert!(matches!(opened.row(at), Err(Fatal::Engine(_))));
            }
            _ => assert!(opened.is_err()),
        }
    }
}
