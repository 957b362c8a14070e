//! A full disk is met by the segment prepared ahead, not by the log, and is got over.

use super::model::SEGMENT;
use super::*;

#[test]
fn a_full_disk_shows_before_the_log_fails_and_passes_when_space_is_freed() {
    let disk = SimulatedDisk::new();
    // Two segments and not a third.
    disk.set_room(Some(SEGMENT * 2 + 1000));
    let log = open_with(Arc::new(disk.clone()), dir(), options(SEGMENT, 0)).unwrap();
    assert!(log.wal.wait_reserve());
    assert!(log.wal.room().spare_ready);
    let mut next = 1;
    while log.wal.room().spare_ready {
        assert!(log.append(entries(1, next..next + 1)));
        log.wal.wait_reserve();
        next += 1;
    }
    let room = log.wal.room();
    assert!(room.bytes_left_in_segment > SEGMENT / 2, "{room:?}");
    assert!(room.spare_failure.is_some(), "{room:?}");
    // A try in vain gives its space back.
    log.wal.retry_reserve();
    assert!(!log.wal.wait_reserve());
    let used: usize = disk
        .list(dir())
        .unwrap()
        .iter()
        .map(|name| disk.file(&dir().join(name)).unwrap().len())
        .sum();
    assert_eq!(used as u64, SEGMENT * 2);

    disk.set_room(Some(SEGMENT * 3));
    log.wal.retry_reserve();
    assert!(log.wal.wait_reserve());
    assert_eq!(log.wal.room().spare_failure, None);
    for index in next..next + 20 {
        assert!(log.append(entries(1, index..index + 1)));
    }
    assert_eq!(log.entries(), entries(1, 1..next + 20));
    assert!(log.fatals.lock().unwrap().is_empty());
}

#[test]
fn a_purge_makes_room_by_itself() {
    let disk = SimulatedDisk::new();
    disk.set_room(Some(SEGMENT * 3));
    let log = open_with(Arc::new(disk.clone()), dir(), options(SEGMENT, 0)).unwrap();
    let mut next = 1;
    while log.wal.wait_reserve() {
        assert!(log.append(entries(1, next..next + 1)));
        next += 1;
    }
    log.purge(next - 1);
    assert!(log.wal.wait_reserve(), "{:?}", log.wal.room());
    assert!(log.append(entries(1, next..next + 1)));
    assert_eq!(log.entries(), entries(1, next..next + 1));
}

#[test]
fn a_log_that_meets_the_full_disk_stops_and_starts_again_with_room() {
    let disk = SimulatedDisk::new();
    disk.set_room(Some(SEGMENT * 2));
    let log = open_with(Arc::new(disk.clone()), dir(), options(SEGMENT, 0)).unwrap();
    let mut next = 1;
    while log.append(entries(1, next..next + 1)) {
        next += 1;
    }
    let fatals = log.fatals.lock().unwrap().clone();
    assert_eq!(fatals.len(), 1);
    assert!(fatals[0].contains("create the log segment"), "{fatals:?}");
    drop(log);
    let disk = disk.process_killed();
    disk.set_room(Some(SEGMENT * 4));
    let log = open_with(Arc::new(disk), dir(), options(SEGMENT, 0)).unwrap();
    assert_eq!(log.entries(), entries(1, 1..next));
    assert!(log.append(entries(1, next..next + 30)));
}

#[test]
fn recycled_files_are_used_again_and_never_more_than_a_few_kept() {
    let disk = SimulatedDisk::new();
    let log = open_with(Arc::new(disk.clone()), dir(), options(SEGMENT, 0)).unwrap();
    let mut next = 1;
    for _ in 0..10 {
        assert!(log.append(entries(1, next..next + 100)));
        next += 100;
        log.purge(next - 1);
        assert!(log.wal.wait_reserve());
        let names = disk.list(dir()).unwrap();
        assert!(names.len() <= 2 + RECYCLED_MAX, "{names:?}");
    }
    assert!(log.wal.stats().segments > 20);
    assert!(log.wal.stats().segments_recycled > 10);
    drop(log);
    let log = open_with(Arc::new(disk.clone()), dir(), options(SEGMENT, 0)).unwrap();
    assert_eq!(log.recovered.purged, Some(id(1, next - 1)));
    assert_eq!(log.entries(), []);
    let names = disk.list(dir()).unwrap();
    assert!(names.iter().any(|name| name.starts_with("recycled-")), "{names:?}");
}
