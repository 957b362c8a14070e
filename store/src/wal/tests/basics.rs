//! What the log promises when nothing goes wrong.

use super::*;

#[test]
fn what_was_appended_comes_back() {
    let disk = SimulatedDisk::new();
    let log = open(&disk).unwrap();
    assert_eq!(log.recovered, Recovered { created: true, ..Recovered::default() });
    assert!(log.vote(b"vote one"));
    for index in (1..200).step_by(3) {
        assert!(log.append(entries(1, index..index + 3)));
    }
    log.wal.save_committed(id(1, 150));
    assert_eq!(log.wal.flushed_index(), 201);
    let all = log.entries();
    assert_eq!(all, entries(1, 1..202));
    log.wal.close();

    let log = open(&disk).unwrap();
    let expected = Recovered {
        vote: Some(Bytes::from_static(b"vote one")),
        committed: Some(id(1, 150)),
        last: Some(id(1, 201)),
        ..Recovered::default()
    };
    assert_eq!(log.recovered, expected);
    assert_eq!(log.entries(), all);
}

#[test]
fn the_real_disk_does_the_same() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("wal");
    for round in 0..3 {
        let log = open_with(Arc::new(RealDisk), &path, options(64 << 10, 1000)).unwrap();
        let begin = round * 500 + 1;
        assert_eq!(log.entries(), entries(1, 1..begin));
        for index in (begin..begin + 500).step_by(50) {
            assert!(log.append(entries(1, index..index + 50)));
        }
        assert_eq!(log.entries(), entries(1, 1..begin + 500));
    }
}

#[test]
fn truncated_entries_stay_gone() {
    let disk = SimulatedDisk::new();
    let log = open(&disk).unwrap();
    assert!(log.append(entries(1, 1..101)));
    log.wal.truncate_after(40);
    assert_eq!(log.wal.last(), Some(id(1, 40)));
    assert_eq!(log.wal.flushed_index(), 40);
    assert!(log.append(entries(2, 41..61)));
    let all: Vec<_> = entries(1, 1..41).into_iter().chain(entries(2, 41..61)).collect();
    assert_eq!(log.entries(), all);
    assert_eq!(log.wal.log_id(61).unwrap(), None);
    drop(log);

    let log = open_with(Arc::new(disk.clone()), dir(), options(8192, 0)).unwrap();
    assert_eq!(log.entries(), all);
    log.wal.truncate_after(0);
    assert_eq!(log.wal.last(), None);
    assert!(log.append(entries(3, 1..3)));
    drop(log);
    let log = open(&disk).unwrap();
    assert_eq!(log.entries(), entries(3, 1..3));
}

#[test]
fn purged_segments_are_recycled() {
    let disk = SimulatedDisk::new();
    let log = open(&disk).unwrap();
    for index in 1..1000 {
        assert!(log.append(entries(1, index..index + 1)));
        if index % 100 == 0 {
            log.wal.purge(id(1, index - 10));
            assert!(log.wal.wait_reserve());
        }
    }
    assert!(log.wal.read(890, 891, 100).is_err(), "purged");
    assert_eq!(log.wal.log_id(890).unwrap(), Some(id(1, 890)));
    assert_eq!(log.wal.log_id(889).unwrap(), None);
    assert_eq!(log.entries(), entries(1, 891..1000));
    drop(log);
    let names = disk.list(dir()).unwrap();
    assert!(names.len() < 12, "{names:?}");
    let log = open(&disk).unwrap();
    assert_eq!(log.recovered.purged, Some(id(1, 890)));
    assert_eq!(log.entries(), entries(1, 891..1000));
}

#[test]
fn how_far_back_so_many_bytes_reach_is_known() {
    let log = open_with(Arc::new(SimulatedDisk::new()), dir(), options(1 << 20, 0)).unwrap();
    let entry = |index| vec![(id(1, index), Bytes::from(vec![7; 10_000]))];
    (1..1000).for_each(|index| assert!(log.append(entry(index))));
    assert_eq!(log.wal.entry_before(999, 11_000_000), 0);
    for (upto, entries) in [(999, 10), (999, 500), (700, 600), (200, 1)] {
        let found = log.wal.entry_before(upto, entries * 10_000);
        // Ends of segments stay empty, and only some places are known.
        let (least, most) = (entries * 97 / 100, entries + 16);
        assert!((least..=most).contains(&(upto - found)), "{upto} {entries} {found}");
    }
    for (index, entries) in [(0, 999), (1, 998), (500, 499), (999, 0)] {
        let bytes = log.wal.bytes_after(index);
        let (least, most) = (entries * 10_000, (entries * 103 / 100 + 16) * 10_000);
        assert!((least..=most).contains(&bytes), "{index}: {bytes}");
    }
}

#[test]
fn a_purge_beyond_the_end_starts_anew() {
    let disk = SimulatedDisk::new();
    let log = open(&disk).unwrap();
    assert!(log.append(entries(1, 1..300)));
    log.wal.purge(id(4, 1000));
    assert_eq!(log.wal.last(), Some(id(4, 1000)));
    assert!(log.append(entries(5, 1001..1010)));
    assert!(log.wal.wait_reserve());
    assert_eq!(log.entries(), entries(5, 1001..1010));
    drop(log);
    let log = open_with(Arc::new(disk), dir(), options(8192, 0)).unwrap();
    assert_eq!(log.recovered.purged, Some(id(4, 1000)));
    assert_eq!(log.entries(), entries(5, 1001..1010));
}

#[test]
fn a_record_larger_than_a_segment_gets_its_own() {
    let disk = SimulatedDisk::new();
    let large = Bytes::from(vec![7; 100_000]);
    let log = open_with(Arc::new(disk.clone()), dir(), options(8192, 0)).unwrap();
    assert!(log.append(entries(1, 1..10)));
    assert!(log.append(vec![(id(1, 10), large.clone()), entry(1, 11)]));
    assert!(log.append(entries(1, 12..200)));
    let mut expected = entries(1, 1..200);
    expected[9].1 = large;
    assert_eq!(log.entries(), expected);
    drop(log);
    let log = open(&disk).unwrap();
    assert_eq!(log.entries(), expected);
    log.purge(199);
    assert!(log.wal.retained_bytes() < 8192);
}
