//! The contract of the parent module as tests, run against every engine.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{Engine, Reader, WriteBatch};
pub(super) use subjects::copy_dir;
use subjects::{Memory, Sled, Subject};

mod killed;
mod subjects;

macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::$name::<super::Memory>(); })*
        }
        mod sled {
            $(#[test] fn $name() { super::$name::<super::Sled>(); })*
        }
    };
}

conformance!(
    rows_are_read_as_written,
    scans_respect_their_bounds,
    scans_end_when_told,
    absent_rows_can_be_deleted,
    big_values_survive,
    contents_survive_reopening,
    contents_survive_maintenance,
    a_crash_leaves_a_prefix,
    readers_work_during_writes_and_maintenance,
    random_calls_match_a_map,
);

type Model = BTreeMap<Bytes, Bytes>;

fn key(n: u64) -> Bytes {
    Bytes::from(n.to_be_bytes().to_vec())
}

fn batch(rows: impl IntoIterator<Item = (Bytes, Bytes)>) -> WriteBatch {
    WriteBatch { puts: rows.into_iter().collect() }
}

/// The rows in a range, which must come in order.
fn rows(reader: &dyn Reader, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Model {
    let mut rows = Model::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        let key = Bytes::copy_from_slice(key);
        assert!(rows.last_key_value().is_none_or(|(last, _)| *last < key), "unordered");
        rows.insert(key, Bytes::copy_from_slice(value));
        ControlFlow::Continue(())
    };
    reader.scan(range, visit).unwrap();
    rows
}

fn contents(engine: &dyn Engine) -> Model {
    rows(&*engine.reader(), (Bound::Unbounded, Bound::Unbounded))
}

fn rows_are_read_as_written<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    let reader = engine.reader();
    assert_eq!(reader.get(b"a").unwrap(), None);
    engine.apply(batch([("a".into(), "1".into()), ("".into(), "empty key".into())])).unwrap();
    engine.apply(batch([("a".into(), "2".into()), ("b".into(), "".into())])).unwrap();
    assert_eq!(reader.get(b"a").unwrap().unwrap(), "2");
    assert_eq!(reader.get(b"b").unwrap().unwrap(), "");
    assert_eq!(reader.get(b"").unwrap().unwrap(), "empty key");
    engine.apply(WriteBatch::default()).unwrap();
    assert_eq!(contents(&*engine).len(), 3);
    assert!(engine.stats().dirty_bytes > 0);
    engine.flush().unwrap();
    assert_eq!(engine.stats().dirty_bytes, 0);
}

fn scans_respect_their_bounds<S: Subject>() {
    use Bound::{Excluded, Included, Unbounded};
    let subject = S::create();
    let engine = subject.engine();
    let model: Model = (0..2000).map(|n| (key(n * 2), key(n))).collect();
    engine.apply(batch(model.clone())).unwrap();
    let reader = engine.reader();
    let bounds = [0, 1, 2, 255, 256, 510, 511, 512, 513, 1024, 2001, 3998, 3999, 5000].map(key);
    for low in &bounds {
        for high in &bounds {
            for low in [Included(&low[..]), Excluded(&low[..]), Unbounded] {
                for high in [Included(&high[..]), Excluded(&high[..]), Unbounded] {
                    let expected: Model = model
                        .iter()
                        .filter(|(key, _)| match low {
                            Included(low) => key[..] >= *low,
                            Excluded(low) => key[..] > *low,
                            Unbounded => true,
                        })
                        .filter(|(key, _)| match high {
                            Included(high) => key[..] <= *high,
                            Excluded(high) => key[..] < *high,
                            Unbounded => true,
                        })
                        .map(|(key, value)| (key.clone(), value.clone()))
                        .collect();
                    assert_eq!(rows(&*reader, (low, high)), expected, "{low:?} to {high:?}");
                }
            }
        }
    }
}

fn scans_end_when_told<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    engine.apply(batch((0..1000).map(|n| (key(n), key(n))))).unwrap();
    for limit in [1, 64, 256, 257, 999] {
        let mut seen = 0;
        let visit = &mut |_: &[u8], _: &[u8]| {
            seen += 1;
            if seen == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        engine.reader().scan((Bound::Unbounded, Bound::Unbounded), visit).unwrap();
        assert_eq!(seen, limit);
    }
}

fn absent_rows_can_be_deleted<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    engine.delete_many(&[key(1), key(2)]).unwrap();
    engine.apply(batch((0..500).map(|n| (key(n), key(n))))).unwrap();
    let gone: Vec<Bytes> = (100..600).map(key).collect();
    for _ in 0..2 {
        engine.delete_many(&gone).unwrap();
        assert_eq!(contents(&*engine).len(), 100);
        engine.flush().unwrap();
    }
    engine.delete_many(&(0..100).map(key).collect::<Vec<_>>()).unwrap();
    drop(engine);
    assert!(contents(&*subject.reopen().engine()).is_empty());
}

fn big_values_survive<S: Subject>() {
    let subject = S::create();
    let noise = (0..3_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    let noise = Bytes::from_iter(noise);
    let engine = subject.engine();
    engine.apply(batch([("big".into(), noise.clone()), ("small".into(), "x".into())])).unwrap();
    engine.flush().unwrap();
    engine.apply(batch([("small".into(), "y".into())])).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let subject = subject.reopen();
    assert_eq!(subject.engine().reader().get(b"big").unwrap().unwrap(), noise);
    assert_eq!(subject.engine().reader().get(b"small").unwrap().unwrap(), "y");
}

fn contents_survive_reopening<S: Subject>() {
    let mut subject = S::create();
    let mut model = Model::new();
    for round in 0..5 {
        let engine = subject.engine();
        assert_eq!(contents(&*engine), model, "round {round}");
        for n in 0..200 {
            let (key, value) = (key(n * 7 % 300), key(round));
            model.insert(key.clone(), value.clone());
            engine.apply(batch([(key, value)])).unwrap();
        }
        engine.flush().unwrap();
        drop(engine);
        subject = subject.reopen();
    }
}

fn contents_survive_maintenance<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    let reader = engine.reader();
    for round in 0..4 {
        engine.apply(batch((0..500).map(|n| (key(round * 500 + n), key(n))))).unwrap();
        engine.delete_many(&[key(round * 500)]).unwrap();
        engine.maintain().unwrap();
        // A reader from before goes on, and what maintenance kept is durable.
        assert_eq!(reader.get(&key(round * 500 + 1)).unwrap().unwrap(), key(1));
        for crashed in subject.crashes() {
            assert_eq!(contents(&*crashed.engine()).len() as u64, (round + 1) * 499);
        }
    }
}

fn a_crash_leaves_a_prefix<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    let mut states = vec![Model::new()];
    let mut flushed = 0;
    for step in 0..30_u64 {
        // Every call changes the contents, so each prefix can be told from the others.
        let mut state = states.last().unwrap().clone();
        if step % 7 == 3 {
            let first = state.keys().next().unwrap().clone();
            state.remove(&first);
            engine.delete_many(&[first]).unwrap();
        } else {
            let rows: Model = (0..40).map(|n| (key(step * 10 + n), key(step))).collect();
            state.extend(rows.clone());
            engine.apply(batch(rows)).unwrap();
        }
        states.push(state);
        if step % 5 == 4 {
            engine.flush().unwrap();
            flushed = states.len() - 1;
        }
        if step % 3 == 0 {
            for crashed in subject.crashes() {
                let found = contents(&*crashed.engine());
                let prefix = states.iter().position(|state| *state == found);
                assert!(prefix.is_some_and(|prefix| prefix >= flushed), "{prefix:?} < {flushed}");
            }
        }
    }
}

fn readers_work_during_writes_and_maintenance<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    // Rows below this number are written and stay.
    let written = AtomicU64::new(0);
    let end = 6000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = engine.reader();
            let written = &written;
            scope.spawn(move || {
                loop {
                    let floor = written.load(Ordering::Acquire);
                    let from = key(floor.saturating_sub(700));
                    let mut next = floor.saturating_sub(700);
                    let visit = &mut |key: &[u8], value: &[u8]| {
                        assert_eq!(key, next.to_be_bytes());
                        assert_eq!(value.len() as u64, next % 100);
                        next += 1;
                        ControlFlow::Continue(())
                    };
                    reader.scan((Bound::Included(&from), Bound::Unbounded), visit).unwrap();
                    assert!(next >= floor, "a written row is missing");
                    if floor > 0 {
                        assert!(reader.get(&key(floor - 1)).unwrap().is_some());
                    }
                    if floor == end {
                        break;
                    }
                }
            });
        }
        for first in (0..end).step_by(20) {
            let rows = (first..first + 20).map(|n| (key(n), vec![7; n as usize % 100].into()));
            engine.apply(batch(rows)).unwrap();
            written.store(first + 20, Ordering::Release);
            match first / 20 % 30 {
                10 => engine.maintain().unwrap(),
                20 => engine.flush().unwrap(),
                _ => {}
            }
        }
    });
}

fn random_calls_match_a_map<S: Subject>() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    let row = (0..200_u64, 0..200_usize);
    let call = prop_oneof![
        8 => proptest::collection::vec(row, 0..60).prop_map(Call::Apply),
        6 => proptest::collection::vec(0..200_u64, 0..60).prop_map(Call::Delete),
        1 => Just(Call::Flush),
        1 => Just(Call::Maintain),
        1 => Just(Call::Reopen),
    ];
    let mut runner =
        TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let result = runner.run(&proptest::collection::vec(call, 1..40), |calls| {
        let mut subject = S::create();
        let mut model = Model::new();
        for call in calls {
            let engine = subject.engine();
            match call {
                Call::Apply(puts) => {
                    let puts = puts.into_iter().map(|(n, len)| (key(n), vec![n as u8; len].into()));
                    let puts: Vec<(Bytes, Bytes)> = puts.collect();
                    model.extend(puts.clone());
                    engine.apply(WriteBatch { puts }).unwrap();
                }
                Call::Delete(keys) => {
                    let keys: Vec<Bytes> = keys.into_iter().map(key).collect();
                    model.retain(|key, _| !keys.contains(key));
                    engine.delete_many(&keys).unwrap();
                }
                Call::Flush => engine.flush().unwrap(),
                Call::Maintain => engine.maintain().unwrap(),
                Call::Reopen => {
                    drop(engine);
                    subject = subject.reopen();
                }
            }
            prop_assert_eq!(&contents(&*subject.engine()), &model);
        }
        Ok(())
    });
    result.unwrap();
}

#[derive(Clone, Debug)]
enum Call {
    Apply(Vec<(u64, usize)>),
    Delete(Vec<u64>),
    Flush,
    Maintain,
    Reopen,
}
