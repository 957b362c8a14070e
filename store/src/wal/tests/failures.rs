//! Every call to the disk made to fail, one at a time: nothing acknowledged is lost, and nothing
//! is acknowledged afterwards.

use crate::disk::{Call, Failure};

use super::model::{Driver, SEGMENT, contents, expect_one_of};
use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Runs the script with one failure planned and checks what is left. Returns whether the call
/// was reached, and whether the log failed.
fn run(call: Call, nth: u64, failure: Failure) -> (bool, bool) {
    let context = format!("{call:?} {nth} {failure:?}");
    let disk = SimulatedDisk::new();
    disk.fail(call, nth, failure);
    let Ok(driver) = Driver::open(&disk, options(SEGMENT, 1 << 20)) else {
        // Failed while the log was made: nothing was promised, the next start makes it.
        let fixture = open(&disk.process_killed()).unwrap();
        assert!(fixture.recovered.created, "{context}");
        return (true, true);
    };
    driver.run_script();
    driver.wal.close();
    let failed = !driver.fatals.lock().unwrap().is_empty();
    let reports = driver.reports.lock().unwrap().clone();
    let states = driver.states.lock().unwrap().clone();
    if failed {
        let fatals = driver.fatals.lock().unwrap();
        assert_eq!(fatals.len(), 1, "{context}: one fatal error is one message");
        assert!(fatals[0].contains("/wal/0000"), "{context}: names the file: {}", fatals[0]);
        let first = reports.iter().position(|(_, ok)| !ok).expect("what was queued fails");
        assert!(reports[first..].iter().all(|(_, ok)| !ok), "{context}: success after failure");
    } else {
        assert!(reports.iter().all(|(_, ok)| *ok), "{context}");
    }
    let calls = states.len();
    assert!(reports.len() * 2 > calls / 8, "{context}: every call is answered");
    let acknowledged = driver.acknowledged();
    let found = contents(&disk.process_killed()).unwrap_or_else(|e| panic!("{context}: {e}"));
    expect_one_of(&found, &states[acknowledged..], &context);
    for seed in 0..3 {
        let found = contents(&disk.power_cut(seed)).unwrap_or_else(|e| panic!("{context}: {e}"));
        expect_one_of(&found, &states[acknowledged..], &context);
        // What a start takes for the log is durable: also what only memory held after a failed
        // sync.
        let restarted = disk.process_killed();
        let found = contents(&restarted).unwrap();
        let again = contents(&restarted.power_cut(seed)).unwrap();
        assert_eq!(found, again, "{context}");
    }
    let reached = disk.count(call) > nth;
    (reached, failed)
}

/// All calls of a kind, until the script makes no more of them.
fn run_all(call: Call, failure: Failure) -> u64 {
    let mut failures = 0;
    for nth in 0.. {
        let (reached, failed) = run(call, nth, failure);
        failures += u64::from(failed);
        if !reached {
            return failures;
        }
    }
    failures
}

#[test]
fn a_failed_write_ends_the_log() {
    assert!(run_all(Call::Write, Failure::Error(EIO)) > 20);
    assert!(run_all(Call::Write, Failure::Error(ENOSPC)) > 20);
    assert!(run_all(Call::Write, Failure::ShortThenError(ENOSPC)) > 20);
}

#[test]
fn a_failed_sync_ends_the_log() {
    assert!(run_all(Call::Sync, Failure::Error(EIO)) > 20);
    assert!(run_all(Call::Sync, Failure::Error(ENOSPC)) > 20);
}

#[test]
fn a_short_write_is_continued() {
    assert_eq!(run_all(Call::Write, Failure::Short), 0);
}

#[test]
fn failures_of_names_lose_nothing() {
    for call in [Call::Create, Call::Rename, Call::Remove, Call::SyncDir] {
        run_all(call, Failure::Error(EIO));
        run_all(call, Failure::Error(ENOSPC));
    }
}

#[test]
fn a_failed_log_refuses_everything() {
    let disk = SimulatedDisk::new();
    let log = open(&disk).unwrap();
    assert!(log.append(entries(1, 1..3)));
    log.wal.wait_reserve();
    disk.fail(Call::Sync, 0, Failure::Error(EIO));
    assert!(!log.append(entries(1, 3..4)));
    let syncs = disk.count(Call::Sync);
    assert!(!log.append(entries(1, 4..5)));
    assert!(!log.vote(b"vote"));
    assert!(!log.wal.wait_flushed(3));
    assert!(log.wal.wait_flushed(2));
    log.wal.truncate_after(1);
    log.wal.purge(id(1, 1));
    log.wal.close();
    assert_eq!(disk.count(Call::Sync), syncs, "a sync is never tried again");
    assert_eq!(log.fatals.lock().unwrap().len(), 1);
}
