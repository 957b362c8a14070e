//! Random histories against the plain model, reopened after a clean end, a kill or a power cut.

use proptest::prelude::*;

use super::model::{Driver, Model, SEGMENT, contents, expect_one_of};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        count: u64,
        newer: bool,
    },
    Large(usize),
    Vote(u8),
    Committed,
    /// Truncate to so many sixteenths of what is there.
    Truncate(u64),
    Purge(u64),
    PurgeBeyond(u64),
    Settle,
    Check,
    Close,
    Kill,
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u64..20, any::<bool>()).prop_map(|(count, newer)| Step::Append { count, newer }),
        1 => (1usize..9000).prop_map(Step::Large),
        2 => any::<u8>().prop_map(Step::Vote),
        1 => Just(Step::Committed),
        2 => (0u64..16).prop_map(Step::Truncate),
        2 => (0u64..17).prop_map(Step::Purge),
        1 => (1u64..50).prop_map(Step::PurgeBeyond),
        3 => Just(Step::Settle),
        2 => Just(Step::Check),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

/// All reads agree with the model, index by index.
fn check(driver: &Driver) {
    let model = driver.state();
    let (purged, last) = (driver.wal.purged().unwrap_or_default(), driver.wal.last());
    assert_eq!((purged, last.unwrap_or_default()), (model.purged, model.last));
    for index in purged.index + 1..=model.last.index {
        assert_eq!(driver.wal.log_id(index).unwrap(), Some(model.entries[&index].0));
        let read = driver.wal.read(index, model.last.index + 5, 700).unwrap();
        let expected: Vec<_> =
            model.entries.range(index..).map(|(_, entry)| entry.clone()).collect();
        assert!(!read.is_empty() && expected.starts_with(&read), "read at {index}");
    }
    assert_eq!(driver.wal.log_id(model.last.index + 1).unwrap(), None);
    if purged.index > 0 {
        assert!(
            driver.wal.read(purged.index, purged.index + 1, 1).is_err() || last == Some(purged)
        );
    }
}

fn share(model: &Model, sixteenths: u64) -> u64 {
    let (from, to) = (model.purged.index, model.last.index);
    from + (to - from) * sixteenths / 16
}

fn act(driver: &Driver, step: &Step) {
    let model = driver.state();
    match step {
        Step::Append { count, newer } => {
            driver.append(*count, (model.last.term + u64::from(*newer)).max(1));
        }
        Step::Large(bytes) => driver.append_large(*bytes, model.last.term.max(1)),
        Step::Vote(byte) => driver.vote(vec![*byte; usize::from(*byte) % 50]),
        Step::Committed => driver.wal.save_committed(model.last),
        Step::Truncate(sixteenths) => driver.truncate_after(share(&model, *sixteenths)),
        Step::Purge(sixteenths) => {
            let index = share(&model, *sixteenths);
            if index > model.purged.index {
                let id = driver.wal.log_id(index).unwrap().unwrap();
                driver.purge(id);
            }
        }
        Step::PurgeBeyond(by) => {
            driver.purge(id(model.last.term + 1, model.last.index + by));
        }
        Step::Settle => assert!(driver.settle()),
        Step::Check => check(driver),
        Step::Close | Step::Kill | Step::PowerCut(_) => unreachable!("handled by the caller"),
    }
}

/// Plays the steps; after each end of the log it holds what it may hold, and reads agree.
fn play(steps: &[Step], cache_bytes: usize) {
    let mut disk = SimulatedDisk::new();
    let mut driver = Driver::open(&disk, options(SEGMENT, cache_bytes)).unwrap();
    for step in steps {
        let next = match step {
            Step::Close => {
                driver.wal.close();
                assert_eq!(contents(&disk.copy()).unwrap(), driver.state());
                disk.power_cut(1)
            }
            Step::Kill => disk.process_killed(),
            Step::PowerCut(seed) => {
                // What was reported before the cut must survive it.
                let acknowledged = driver.acknowledged();
                let next = disk.power_cut(*seed);
                let states = driver.states.lock().unwrap().clone();
                let found = contents(&next.copy()).unwrap();
                expect_one_of(&found, &states[acknowledged..], "after a power cut");
                next
            }
            step => {
                act(&driver, step);
                continue;
            }
        };
        let found = contents(&next.copy()).unwrap();
        let states = driver.states.lock().unwrap().clone();
        expect_one_of(&found, &states, "reopened");
        driver.wal.close();
        assert!(driver.fatals.lock().unwrap().is_empty());
        disk = next;
        driver = Driver::open(&disk, options(SEGMENT, cache_bytes)).unwrap();
        check(&driver);
    }
    assert!(driver.settle());
    check(&driver);
    driver.wal.close();
    assert_eq!(contents(&disk.power_cut(3)).unwrap(), driver.state());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_log_is_its_model(
        steps in prop::collection::vec(step(), 1..80),
        cache_bytes in prop_oneof![Just(0usize), Just(1000), Just(1 << 20)],
    ) {
        play(&steps, cache_bytes);
    }
}

fn append(count: u64, newer: bool) -> Step {
    Step::Append { count, newer }
}

/// Found by the random histories.
#[test]
fn a_truncation_in_one_group_with_what_it_removes() {
    play(&[append(4, false), Step::Truncate(4), append(1, true), Step::Settle], 0);
}

/// Found by the random histories: what the log read then was the entry truncated.
#[test]
fn entries_after_a_truncation_that_was_the_last_thing_before_a_restart() {
    for end in [Step::Kill, Step::Close] {
        let steps = [
            append(12, false),
            Step::Settle,
            Step::Truncate(2),
            end,
            Step::Large(3899),
            Step::Settle,
            Step::Check,
        ];
        play(&steps, 0);
    }
}

/// Found by the random histories.
#[test]
fn a_purge_of_everything_before_restarts() {
    let steps = [
        append(27, true),
        Step::Settle,
        Step::Truncate(9),
        append(35, false),
        Step::Settle,
        Step::Purge(16),
        append(26, true),
        Step::Close,
        Step::Truncate(1),
        append(20, true),
        Step::Check,
        Step::Truncate(5),
        Step::Truncate(14),
        Step::Purge(1),
        append(14, true),
        Step::Kill,
        append(19, true),
        Step::PowerCut(1_516_632_076_874_753_915),
        append(13, false),
        Step::Truncate(2),
        Step::PowerCut(15_100_506_757_676_129_867),
        Step::PowerCut(3_302_180_354_062_807_006),
        Step::Purge(8),
        Step::Large(1958),
        append(12, false),
        Step::Check,
        Step::Kill,
        Step::Settle,
    ];
    play(&steps, 1000);
}
