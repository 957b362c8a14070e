//! Golden scripts: kvd answers what a real etcd answered, to the letter.

use std::fs;
use std::path::{Path, PathBuf};

use harness::script;

/// What the whole set must hold at least, so that it does not wither.
const STEPS_MIN: usize = 400;

fn scripts_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// One test per directory of scripts.
macro_rules! directories {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            if let Err(error) = script::check_directory(&scripts_dir().join(stringify!($name))) {
                panic!("{error:#}");
            }
        })*

        const DIRECTORIES: &[&str] = &[$(stringify!($name)),*];
    };
}

directories!(
    kv,
    range,
    txn,
    compact,
    hash,
    watch,
    clients,
    errors,
    restart,
    members,
    lease,
    auth,
    lock,
    election,
    health,
    alarm,
    maintenance
);

#[test]
fn every_directory_runs_and_there_are_enough_steps() {
    let mut steps = 0;
    for entry in fs::read_dir(scripts_dir()).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        // Shell lines for kvctl, which `ctl.rs` runs, and what `gateway.rs` does over plain HTTP.
        if ["ctl", "gateway", "pages"].contains(&name.as_str()) {
            continue;
        }
        assert!(DIRECTORIES.contains(&name.as_str()), "no test runs tests/scripts/{name}");
        for file in fs::read_dir(dir).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            steps += script::parse_steps(&text).unwrap().1.len();
        }
    }
    assert!(steps >= STEPS_MIN, "only {steps} steps");
}
