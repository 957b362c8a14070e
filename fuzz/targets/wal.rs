//! The log's segments as they are found at the start: opened, read, written on, opened again.
//!
//! The input is `how | segment | segment | ..`, each a part as long as its kind says, zero
//! where the input is shorter. With `how` odd the checksums are made to fit.
#![no_main]

use std::path::Path;
use std::sync::{Arc, mpsc};

use kvd_fuzz::pieces::Pieces;
use libfuzzer_sys::fuzz_target;
use store::disk::SimulatedDisk;
use store::wal::{Recovered, Wal, WalOptions, fuzzing};
use store::{Fatal, LogId};

const DIR: &str = "/wal";
/// Every size is a multiple of it.
const SIZE_UNIT: usize = 4096;
const READ_BYTES: usize = 1000;

fn disk_of(input: &[u8]) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let Some((how, segments)) = input.split_first() else { return disk };
    let mut chain = 0;
    for (units, bytes) in Pieces::new(segments) {
        let mut segment = bytes.to_vec();
        segment.resize((usize::from(units % 4) + 1) * SIZE_UNIT, 0);
        if how % 2 == 1 {
            chain = fuzzing::reseal(&mut segment, chain);
        }
        if let Some(name) = fuzzing::name(&segment) {
            disk.set_file(&Path::new(DIR).join(name), segment);
        }
    }
    disk
}

fn open(disk: &SimulatedDisk) -> Result<(Wal, Recovered), Fatal> {
    let options = WalOptions {
        segment_bytes: 4096,
        cache_bytes: 256,
        ..WalOptions::new(|fatal| panic!("a disk that does not fail: {fatal}"))
    };
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), options)
}

/// Reads every entry; how many there were.
fn read(wal: &Wal) -> u64 {
    let end = wal.last().map_or(1, |id| id.index.saturating_add(1));
    let mut next = wal.purged().map_or(1, |id| id.index.saturating_add(1));
    let first = next;
    while next < end {
        let entries = wal.read(next, end, READ_BYTES).expect("what was opened can be read");
        assert!(!entries.is_empty());
        for (id, _) in entries {
            assert_eq!(id.index, next);
            assert_eq!(wal.log_id(next).expect("it is in memory"), Some(id));
            next += 1;
        }
    }
    next - first
}

fuzz_target!(|input: &[u8]| {
    let disk = disk_of(input);
    let Ok((wal, found)) = open(&disk) else { return };
    let count = read(&wal);
    let last = wal.last().unwrap_or_default();
    let Some(index) = last.index.checked_add(1) else { return };
    let (tell, told) = mpsc::channel();
    let done = move |result: std::io::Result<()>| tell.send(result.is_ok()).expect("it is awaited");
    let entry = (LogId { term: last.term, index }, bytes::Bytes::from_static(b"the next one"));
    wal.append(vec![entry], Box::new(done));
    assert_eq!(told.recv(), Ok(true));
    wal.close();
    drop(wal);
    let (wal, again) = open(&disk).unwrap_or_else(|fatal| panic!("what was written on: {fatal}"));
    assert_eq!((again.vote, again.purged), (found.vote, found.purged));
    assert_eq!(read(&wal), count + 1);
});
