//! A checkpoint cut off at every call it makes to the engine.

use std::ops::{Bound, ControlFlow};
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
/// deleted and compacted away, one whose tombstone never reaches the engine, one overwritten, one
/// that began anew, one that is large.
fn history(engine: MemoryEngine) -> Harness {
    let mut harness = Harness::new();
    harness.engine = engine;
    harness.store = super::open(&harness.engine);
    for key in [b"a", b"b", b"c", b"d", b"g"] {
        harness.put(key, b"first");
        harness.put(key, &[7; 10_000]);
    }
    for lease in 1..=4 {
        harness.grant(lease, lease * 10);
    }
    harness.put_leased(b"l1", 1);
    harness.put_leased(b"l2", 1);
    harness.put_leased(b"l3", 2);
    harness.delete(b"a", b"");
    harness.store.checkpoint().unwrap();
    // One lease goes with its keys, one changes, one comes anew, and one never reaches the engine.
    harness.put_leased(b"l2", 2);
    harness.revoke(1);
    harness.note_remaining(2, 7);
    harness.revoke(3);
    harness.grant(3, 99);
    harness.put_leased(b"l4", 3);
    harness.grant(5, 50);
    harness.revoke(5);
    harness.put(b"b", b"second");
    harness.delete(b"c", b"d");
    harness.delete(b"g", b"");
    harness.put(b"c", b"anew");
    harness.put(b"e", &vec![1; 550 << 10]);
    harness.put(b"f", &vec![2; 550 << 10]);
    let compacted = harness.model.revision - 1;
    harness.compact(compacted).unwrap();
    harness.settle();
    harness.put(b"b", b"third");
    harness
}

/// A history whose second checkpoint removes rows in many places, of keys that are forgotten.
fn long_history(engine: MemoryEngine) -> Harness {
    let mut harness = Harness::new();
    harness.engine = engine;
    harness.store = super::open(&harness.engine);
    for number in 0..400 {
        harness.put(format!("key{}", number % 130).as_bytes(), b"value");
    }
    harness.store.checkpoint().unwrap();
    harness.delete(b"key1", b"key9");
    harness.put(b"key100", b"anew");
    let compacted = harness.model.revision;
    harness.compact(compacted).unwrap();
    harness.settle();
    harness
}

/// Ends the second checkpoint of a history after every number of calls, and of what it had not
/// flushed lets a crash keep every so many removals.
fn cut_off(history: fn(MemoryEngine) -> Harness, options: &StoreOptions, kept_step: usize) {
    for calls in 0.. {
        let mut harness = history(MemoryEngine::new());
        // The same engine, which now fails after some calls.
        let failing =
            Failing { inner: harness.engine.clone(), calls_left: AtomicUsize::new(calls) };
        let store = Store::open(Arc::new(failing), options.clone()).unwrap();
        let applied = store.applied().index as usize;
        for command in &harness.log[applied..] {
            super::apply_next(&store, command);
        }
        while store.compact_step().unwrap() {}
        let complete = store.checkpoint().is_ok();
        for kept in (0..=harness.engine.unflushed()).step_by(kept_step) {
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
            assert_eq!(rows_in(&harness.engine, 0xE0), harness.model.left().len());
            assert_eq!(rows_in(&harness.engine, 0x03), harness.model.leases.len());
        }
        if complete {
            return;
        }
    }
}

/// Rows of a kind in the engine.
fn rows_in(engine: &MemoryEngine, kind: u8) -> usize {
    let mut rows = 0;
    let (start, end) = ([kind], [kind + 1]);
    let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    let count = &mut |_: &[u8], _: &[u8]| {
        rows += 1;
        ControlFlow::Continue(())
    };
    engine.reader().scan(range, count).unwrap();
    rows
}

#[test]
fn a_checkpoint_cut_off_anywhere_loses_nothing() {
    cut_off(history, &StoreOptions::default(), 1);
}

/// Memory is given back all the time, and always new rows wait: most of the removal is left over.
#[test]
fn a_removal_cut_off_anywhere_revives_nothing() {
    let options = StoreOptions { recent_bytes_max: 0, rewrite_bytes: 1, ..StoreOptions::default() };
    cut_off(long_history, &options, 7);
}

#[test]
fn a_compaction_waits_for_a_checkpoint_that_waits_for_the_log() {
    let mut harness = Harness::new();
    harness.put(b"a", b"value");
    harness.store.checkpoint().unwrap();
    harness.delete(b"a", b"");
    let compacted = harness.model.revision;
    harness.compact(compacted).unwrap();
    assert!(!harness.store.checkpoint_if(|_| false).unwrap());
    harness.settle();
    assert!(harness.store.compaction_finished() < compacted);
    harness.store.checkpoint().unwrap();
    let left = harness.engine.after_crash(0);
    harness.reopen(left);
    harness.check_all();
    harness.settle();
    harness.check_all();
    assert_eq!(harness.store.compaction_finished(), compacted);
}

#[test]
fn damage_in_the_engine_is_fatal_to_a_read() {
    let mut harness = Harness::new();
    harness.put(b"key", b"value");
    harness.grant(7, 60);
    harness.store.checkpoint().unwrap();
    let mut rows = Vec::new();
    let everything = (Bound::Unbounded, Bound::Unbounded);
    harness
        .engine
        .reader()
        .scan(everything, &mut |key, row| {
            rows.push((Bytes::copy_from_slice(key), row.to_vec()));
            ControlFlow::Continue(())
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
