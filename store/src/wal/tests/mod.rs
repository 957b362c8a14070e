//! The log against a disk that tears, fails and loses, and against a plain model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::disk::{Disk, RealDisk, SimulatedDisk};
use crate::{Fatal, LogId};

use super::*;

mod basics;
mod concurrency;
mod crash;
mod damage;
mod failures;
mod format;
mod model;
mod random;
mod reserve;

const DIR: &str = "/wal";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

struct Fixture {
    wal: Wal,
    recovered: Recovered,
    fatals: Arc<Mutex<Vec<String>>>,
}

fn options(segment_bytes: u64, cache_bytes: usize) -> WalOptions {
    WalOptions { segment_bytes, cache_bytes, ..WalOptions::new(|_| {}) }
}

fn open_with(disk: Arc<dyn Disk>, dir: &Path, mut options: WalOptions) -> Result<Fixture, Fatal> {
    let fatals = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&fatals);
    options.on_fatal = Box::new(move |fatal| sink.lock().unwrap().push(fatal.to_string()));
    let (wal, recovered) = Wal::open(disk, dir, options)?;
    Ok(Fixture { wal, recovered, fatals })
}

fn open(disk: &SimulatedDisk) -> Result<Fixture, Fatal> {
    open_with(Arc::new(disk.clone()), dir(), options(8192, 1 << 20))
}

impl Fixture {
    /// Appends and waits; whether it is durable.
    fn append(&self, entries: Vec<(LogId, Bytes)>) -> bool {
        let (send, receive) = std::sync::mpsc::channel();
        let done = move |result: std::io::Result<()>| send.send(result.is_ok()).unwrap();
        self.wal.append(entries, Box::new(done));
        receive.recv().unwrap()
    }

    fn vote(&self, vote: &'static [u8]) -> bool {
        let (send, receive) = std::sync::mpsc::channel();
        let done = move |result: std::io::Result<()>| send.send(result.is_ok()).unwrap();
        self.wal.save_vote(Bytes::from_static(vote), Box::new(done));
        receive.recv().unwrap()
    }

    /// Purges and waits until the segments have been given up.
    fn purge(&self, index: u64) {
        let term = self.wal.log_id(index).unwrap().unwrap().term;
        self.wal.purge(id(term, index));
        // Segments are given up after the group that says so; the next one comes after that.
        assert!(self.vote(b"one") && self.vote(b"two"));
        self.wal.wait_reserve();
    }

    /// All entries there are.
    fn entries(&self) -> Vec<(LogId, Bytes)> {
        let first = self.wal.purged().map_or(1, |id| id.index + 1);
        let end = self.wal.last().map_or(1, |id| id.index + 1);
        let mut entries: Vec<(LogId, Bytes)> = Vec::new();
        let mut next = first;
        while next < end {
            let more = self.wal.read(next, end, 300).unwrap();
            assert!(!more.is_empty(), "a read returns at least one entry");
            next += more.len() as u64;
            entries.extend(more);
        }
        for ((id, _), index) in entries.iter().zip(first..) {
            assert_eq!(id.index, index);
            assert_eq!(self.wal.log_id(index).unwrap(), Some(*id));
        }
        entries
    }
}

/// An entry whose payload tells its place and has an uneven length.
fn entry(term: u64, index: u64) -> (LogId, Bytes) {
    let length = (index * 37 + term * 11) % 301;
    let payload: Vec<u8> = (0..length).map(|at| (at * 7 + index * 13 + term) as u8).collect();
    (id(term, index), Bytes::from(payload))
}

fn entries(term: u64, range: std::ops::Range<u64>) -> Vec<(LogId, Bytes)> {
    range.map(|index| entry(term, index)).collect()
}

fn segment_path(sequence: u32) -> PathBuf {
    dir().join(segment::name(sequence))
}
