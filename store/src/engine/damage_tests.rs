//! Damaged engine files lead to an error or to contents that once were, never to wrong rows, a
//! panic or a hang.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::conformance::copy_dir;
use super::{Engine, OpenError, SledEngine, SledOptions, WriteBatch};
use crate::Fatal;

type Rows = BTreeMap<Bytes, Bytes>;

/// Generous: only a hang takes so long.
const HANG: Duration = Duration::from_secs(60);

/// An engine's folder, and what its readers may find there: the contents at each flush.
struct Victim {
    dir: tempfile::TempDir,
    flushed: Vec<Rows>,
}

impl Victim {
    /// With `settled`, files are as maintenance leaves them, else as a crash after a flush does.
    fn new(settled: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = SledEngine::open(&dir.path().join("db"), SledOptions::default()).unwrap();
        let mut random = StdRng::seed_from_u64(3);
        let mut flushed = vec![Rows::new()];
        let mut rows = Rows::new();
        for round in 0..6_u32 {
            let row = |n: u32| {
                let value: Vec<u8> =
                    (0..random.random_range(0..600)).map(|_| random.random()).collect();
                // Half of the rows replace those of the round before, so that places are used again.
                (Bytes::copy_from_slice(&(round * 100 + n).to_be_bytes()), Bytes::from(value))
            };
            let puts: Vec<(Bytes, Bytes)> = (0..200).map(row).collect();
            rows.extend(puts.clone());
            engine.apply(WriteBatch { puts }).unwrap();
            engine.flush().unwrap();
            flushed.push(rows.clone());
        }
        if settled {
            engine.maintain().unwrap();
            flushed.drain(..flushed.len() - 1);
        }
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        Self { dir: copy, flushed }
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for folder in ["db", "db/metadata", "db/slabs"] {
            for entry in std::fs::read_dir(self.dir.path().join(folder)).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path().strip_prefix(self.dir.path()).unwrap().to_owned();
                // A warning to users and empty slabs have nothing to lose.
                if entry.metadata().unwrap().len() > 0 && path.is_relative() {
                    files.push(path);
                }
            }
        }
        files.retain(|file| self.dir.path().join(file).is_file());
        files.sort();
        assert!(files.len() > 3, "{files:?}");
        files
    }

    /// Damages a copy with `harm` and tells what came of it.
    fn after(&self, harm: impl FnOnce(&Path)) -> Outcome {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), copy.path());
        harm(copy.path());
        let (send, outcome) = std::sync::mpsc::channel();
        let dir = copy.path().join("db");
        std::thread::spawn(move || {
            // A panic drops the sender.
            let _ = send.send(read_all(&dir));
        });
        let outcome = outcome.recv_timeout(HANG).expect("it neither panics nor hangs");
        match outcome {
            Ok(rows) => {
                let at = self.flushed.iter().position(|flushed| *flushed == rows);
                Outcome::Read(at.expect("what is read was there once"))
            }
            Err(Fatal::Engine(_)) => Outcome::Refused,
            Err(other) => panic!("not told as damage: {other}"),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// The contents at this flush.
    Read(usize),
    Refused,
}

fn read_all(dir: &Path) -> Result<Rows, Fatal> {
    let engine = SledEngine::open(dir, SledOptions::default())?;
    let mut rows = Rows::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        ControlFlow::Continue(())
    };
    engine.reader().scan((Bound::Unbounded, Bound::Unbounded), visit)?;
    Ok(rows)
}

#[test]
fn a_missing_file_is_noticed() {
    for settled in [true, false] {
        let victim = Victim::new(settled);
        for file in victim.files() {
            let outcome = victim.after(|dir| std::fs::remove_file(dir.join(&file)).unwrap());
            assert_eq!(outcome, Outcome::Refused, "{file:?}");
        }
    }
}

#[test]
fn a_cut_file_is_noticed() {
    for settled in [true, false] {
        let victim = Victim::new(settled);
        for file in victim.files() {
            let bytes = std::fs::read(victim.dir.path().join(&file)).unwrap();
            for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                let harm = |dir: &Path| std::fs::write(dir.join(&file), &bytes[..length]).unwrap();
                let outcome = victim.after(harm);
                // A slab may hold nothing but free slots.
                let slab = file.starts_with("db/slabs");
                if !slab {
                    assert_eq!(outcome, Outcome::Refused, "{file:?} cut to {length}");
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let mut random = StdRng::seed_from_u64(11);
    for settled in [true, false] {
        let victim = Victim::new(settled);
        for file in victim.files() {
            let bytes = std::fs::read(victim.dir.path().join(&file)).unwrap();
            for _ in 0..4 {
                let mut flipped = bytes.clone();
                let at = random.random_range(0..bytes.len());
                flipped[at] ^= 1 << random.random_range(0..8);
                let harm = |dir: &Path| std::fs::write(dir.join(&file), &flipped).unwrap();
                let outcome = victim.after(harm);
                // Free slots do not matter.
                let slab = file.starts_with("db/slabs");
                if !slab {
                    assert_eq!(outcome, Outcome::Refused, "{file:?} at {at}");
                }
            }
        }
    }
}

#[test]
fn the_newest_log_may_be_lost() {
    // Its name is not durable before the first flush. Without it sled would delete its snapshot.
    let victim = Victim::new(true);
    let dir = tempfile::tempdir().unwrap();
    copy_dir(victim.dir.path(), dir.path());
    let metadata = dir.path().join("db/metadata");
    for entry in std::fs::read_dir(&metadata).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("log_") {
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
            std::fs::remove_file(path).unwrap();
        }
    }
    for _ in 0..3 {
        assert_eq!(read_all(&dir.path().join("db")).unwrap(), *victim.flushed.last().unwrap());
    }
}

#[test]
fn remains_of_a_first_opening_are_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    std::fs::create_dir_all(db.join("slabs")).unwrap();
    std::fs::create_dir_all(db.join("metadata")).unwrap();
    // The cookie is written without a sync, so a power failure leaves it empty.
    std::fs::write(db.join("durability_cookie"), "").unwrap();
    assert_eq!(read_all(&db).unwrap(), Rows::new());
}

#[test]
fn after_an_error_the_engine_stays_shut() {
    let victim = Victim::new(true);
    let db = victim.dir.path().join("db");
    let engine = SledEngine::open(&db, SledOptions::default()).unwrap();
    for entry in std::fs::read_dir(db.join("slabs")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, vec![0xee; bytes.len()]).unwrap();
    }
    let reader = engine.reader();
    let first = reader.get(&500_u32.to_be_bytes()).unwrap_err();
    assert!(matches!(first, Fatal::Engine(_)), "{first}");
    assert!(reader.get(&0_u32.to_be_bytes()).is_err());
    assert!(engine.apply(WriteBatch::default()).is_err());
    assert!(engine.delete_many(&[]).is_err());
    assert!(engine.flush().is_err());
    assert!(engine.maintain().is_err());
    drop((engine, reader));
    // Opening again would only lead to the same row.
    let again = SledEngine::open(&db, SledOptions::default()).err().unwrap();
    assert!(matches!(again, OpenError::Damaged(_)), "{again}");
}
