//! A process that is killed while it writes: what it leaves is a prefix of what it did.

use std::io::BufRead;
use std::path::Path;

use super::super::Engine;
use super::subjects::open_sled;
use super::{Model, batch, contents, key};

/// Named in the environment of a child: where [`killed_writer`] shall write.
const CHILD_DIR: &str = "KVD_TEST_ENGINE_DIR";

/// Call `n` of the child: what the engine holds after it follows from `n` alone.
fn state_after(calls: u64) -> Model {
    (calls.saturating_sub(50)..calls).map(|n| (key(n), vec![n as u8; 300].into())).collect()
}

/// The child of [`a_killed_writer_leaves_a_prefix`]; on its own it does nothing.
#[test]
fn killed_writer() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let engine = open_sled(Path::new(&dir));
    let start = contents(&engine)
        .last_key_value()
        .map_or(0, |(last, _)| u64::from_be_bytes(last[..].try_into().unwrap()) + 1);
    for n in start.. {
        // Removing first: a crash in between then leaves a state that no other crash leaves.
        engine.apply(batch([(key(n), vec![n as u8; 300].into())])).unwrap();
        if let Some(old) = n.checked_sub(50) {
            engine.delete_many(&[key(old)]).unwrap();
        }
        if n % 10 == 9 {
            engine.flush().unwrap();
            println!("\nflushed {}", n + 1);
        }
        if n % 100 == 99 {
            engine.maintain().unwrap();
        }
    }
}

#[test]
fn a_killed_writer_leaves_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let mut durable = 0;
    for round in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine::conformance::killed::killed_writer", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let flushes = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("flushed ").map(|n| n.parse::<u64>().unwrap()));
        // Different numbers of flushes hit different places of the next ones.
        for flushed in flushes.take(3 + round * 5 % 17) {
            durable = flushed;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let found = contents(&open_sled(dir.path()));
        let last = found
            .last_key_value()
            .map_or(0, |(last, _)| u64::from_be_bytes(last[..].try_into().unwrap()) + 1);
        let mut without_delete = state_after(last);
        if let Some(old) = last.checked_sub(51) {
            without_delete.insert(key(old), vec![old as u8; 300].into());
        }
        assert!(last >= durable, "round {round}: {last} < {durable}");
        assert!(found == state_after(last) || found == without_delete, "round {round}");
    }
}
