//! Power cuts: the script is recorded once, and the disk is then examined as it was at every
//! moment, at every byte of every write, and with any part of what was not synced missing.

use crate::disk::{Call, Event, Failure};

use super::model::{Driver, Model, SEGMENT, contents, expect_one_of};
use super::*;

const SECTOR: u64 = 512;

/// A recorded run: what happened to the disk, with marks for acknowledged steps, and the states.
fn record() -> (Vec<Event>, Vec<Model>) {
    let disk = SimulatedDisk::new();
    disk.record_events();
    let driver = Driver::open(&disk, options(SEGMENT, 1 << 20)).unwrap();
    driver.run_script();
    driver.wal.close();
    assert!(driver.fatals.lock().unwrap().is_empty());
    let states = driver.states.lock().unwrap().clone();
    (disk.events(), states)
}

/// Plays the events and shows each moment, with what was acknowledged by then.
fn moments(events: &[Event], mut visit: impl FnMut(&SimulatedDisk, usize, Option<&Event>)) {
    let disk = SimulatedDisk::new();
    let mut acknowledged = 0;
    for event in events {
        visit(&disk, acknowledged, Some(event));
        disk.play(event);
        if let Event::Mark(step) = event {
            acknowledged = acknowledged.max(*step as usize);
        }
    }
    visit(&disk, acknowledged, None);
}

#[test]
fn every_power_cut_keeps_what_was_acknowledged() {
    let (events, states) = record();
    let mut cuts = 0;
    moments(&events, |disk, acknowledged, _| {
        for seed in 0..6 {
            let cut = disk.power_cut(cuts);
            cuts += 1;
            let context = format!("cut {cuts}, seed {seed}");
            let found = contents(&cut).unwrap_or_else(|error| panic!("{context}: {error}"));
            expect_one_of(&found, &states[acknowledged..], &context);
            // The repair is durable and does not change its mind.
            let again = contents(&cut.power_cut(seed)).unwrap();
            assert_eq!(again, found, "{context}");
        }
    });
}

/// Every call that opening makes is failed, and the power cut then.
#[test]
fn a_failure_or_a_power_cut_during_the_repair_changes_nothing() {
    let (events, states) = record();
    let (mut seed, mut failures) = (7, 0);
    let calls = [Call::Write, Call::Sync, Call::SyncDir, Call::Create, Call::Rename, Call::Remove];
    moments(&events, |disk, acknowledged, event| {
        if !matches!(event, Some(Event::Sync { .. })) {
            return;
        }
        let cut = disk.power_cut(seed);
        seed += 1;
        let whole = cut.copy();
        contents(&whole).unwrap();
        for call in calls {
            for nth in 0..whole.count(call) {
                let partly = cut.copy();
                partly.fail(call, nth, Failure::Error(5));
                let context = format!("seed {seed}, {call:?} {nth}");
                let error = contents(&partly).expect_err(&context).to_string();
                assert!(error.contains("/wal"), "{context}: {error}");
                failures += 1;
                for after in [partly.power_cut(seed), partly.process_killed()] {
                    let found = contents(&after).unwrap();
                    expect_one_of(&found, &states[acknowledged..], &context);
                }
            }
        }
    });
    assert!(failures > 100, "{failures}");
}

/// A write cut at a sector border must never stop a member. Cut inside a sector that held records
/// before (which the assumed disks do not do), the member may refuse, but not lose anything.
#[test]
fn a_write_cut_at_every_byte_keeps_what_was_acknowledged() {
    let (events, states) = record();
    let (mut cuts, mut refused) = (0, 0);
    moments(&events, |disk, acknowledged, event| {
        let Some(Event::Write { node, offset, bytes }) = event else { return };
        if bytes.iter().all(|byte| *byte == 0) {
            return;
        }
        for length in 0..=bytes.len() {
            let cut = disk.copy();
            let bytes = bytes[..length].to_vec();
            cut.play(&Event::Write { node: *node, offset: *offset, bytes });
            cuts += 1;
            let context = format!("cut {cuts}: {length} bytes at {offset}");
            match contents(&cut) {
                Ok(found) => expect_one_of(&found, &states[acknowledged..], &context),
                Err(Fatal::Damaged { .. }) => {
                    let position = offset + length as u64;
                    assert!(!position.is_multiple_of(SECTOR), "{context}: refused");
                    assert!(length < SECTOR as usize, "{context}: not in the sector rewritten");
                    refused += 1;
                }
                Err(error) => panic!("{context}: {error}"),
            }
        }
    });
    assert!(refused * 4 < cuts, "{refused} of {cuts} refused");
}

/// Goes on after each cut, so that what a torn group left behind gets a chance to do harm.
#[test]
fn cut_after_cut_nothing_comes_back_from_the_dead() {
    for seed in 0..60 {
        let mut disk = SimulatedDisk::new();
        for round in 0..8 {
            let context = format!("seed {seed}, round {round}");
            let driver = Driver::open(&disk, options(SEGMENT, 500))
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            let pick = seed * 31 + round * 17;
            // Entries of the same index, term and size as those cut off, and others.
            let term = driver.state().last.term + u64::from(pick % 3 == 0) + u64::from(round == 0);
            for nth in 0..pick % 7 {
                driver.append(1 + (pick + nth) % 5, term);
                if nth % 3 == 1 {
                    driver.settle();
                }
            }
            if pick % 5 == 0 {
                driver.truncate_after(driver.state().last.index / 2);
                driver.append(3, term + 1);
            }
            if pick % 4 == 1 {
                driver.settle();
                driver.purge(driver.state().last);
                driver.append(4, term + 1);
            }
            driver.append(2, term + 1);
            if pick % 2 == 0 {
                driver.settle();
            }
            let acknowledged = driver.acknowledged();
            let after = disk.power_cut(seed * 1000 + round);
            driver.wal.close();
            let found = contents(&after.copy()).unwrap_or_else(|e| panic!("{context}: {e}"));
            let states = driver.states.lock().unwrap();
            expect_one_of(&found, &states[acknowledged..], &context);
            disk = after;
        }
    }
}

/// Two sectors of a torn group stay behind a lost one, each a whole record at a sector's border:
/// once the lost one is written anew, they would continue it.
#[test]
fn a_torn_group_does_not_continue_a_later_one() {
    let disk = SimulatedDisk::new();
    let log = open(&disk).unwrap();
    let fill =
        |index: u64, byte: u8, length: usize| (id(1, index), Bytes::from(vec![byte; length]));
    assert!(log.append(vec![fill(1, 1, 496 - 62 - 25)]));
    assert!(log.append((2..5).map(|index| fill(index, 2, 496 - 25)).collect()));
    let torn = disk.process_killed();
    let mut content = torn.file(&segment_path(1)).unwrap();
    content[2 * 512..3 * 512].fill(0);
    torn.set_file(&segment_path(1), content);
    let log = open(&torn).unwrap();
    assert_eq!(log.recovered.last, Some(id(1, 1)));
    assert_eq!(log.recovered.cut_bytes, 2 * 496);
    assert!(log.append(vec![fill(2, 3, 496 - 25)]));
    let log = open(&torn.process_killed()).unwrap();
    assert_eq!(log.recovered.last, Some(id(1, 2)));
    assert_eq!(log.entries()[1], fill(2, 3, 496 - 25));
}

/// All entries are purged, the segment is closed, and nothing of the next was written: the closed
/// one is the only one that knows vote and marks.
#[test]
fn a_closed_segment_stays_until_the_next_has_begun() {
    let disk = SimulatedDisk::new();
    disk.record_events();
    let log = open_with(Arc::new(disk.clone()), dir(), options(SEGMENT, 0)).unwrap();
    assert!(log.append(entries(1, 1..4)) && log.vote(b"vote"));
    log.wal.purge(id(1, 3));
    // Too large for what is left of the first segment.
    assert!(log.append(vec![(id(1, 4), Bytes::from(vec![1; 3300]))]));
    log.wal.close();
    // The moment before the first record of the second segment.
    let cut = SimulatedDisk::new();
    let mut first = None;
    for event in disk.events() {
        if let Event::Write { node, offset: 512, .. } = event
            && *first.get_or_insert(node) != node
        {
            break;
        }
        cut.play(&event);
    }
    for _ in 0..2 {
        let log = open_with(Arc::new(cut.clone()), dir(), options(SEGMENT, 0)).unwrap();
        assert_eq!(log.recovered.purged, Some(id(1, 3)));
        assert_eq!(log.recovered.vote.as_deref(), Some(b"vote".as_slice()));
        log.wal.wait_reserve();
    }
}
