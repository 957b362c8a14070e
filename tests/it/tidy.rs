//! The house rules that a machine can check: who may know whom, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that is longer has more than one subject.
const FILE_LINES_MAX: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every Rust file of the repository, by its path from the root, with its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![root()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                dirs.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 50, "the sources are here");
    found
}

/// Lines that are not comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Panics with all that was found, so that one run shows everything.
fn expect_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let (mut silent, mut long) = (Vec::new(), Vec::new());
    for (path, text) in sources() {
        let lines = text.lines().count();
        if !text.starts_with("//!") {
            silent.push(path.clone());
        }
        if lines > FILE_LINES_MAX {
            long.push(format!("{path}: {lines} lines"));
        }
    }
    expect_none("files start with a `//!` that says what they are for", &silent);
    expect_none("files are shorter; split them along a noun", &long);
}

#[test]
fn nothing_is_left_for_later() {
    // In two parts, so that this file does not find itself.
    let words = [concat!("FIX", "ME"), concat!("todo", "!("), "#[ignore"];
    let mut found = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| path != "tests/it/tidy.rs") {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    expect_none("what is not done is not in the tree", &found);
}

#[test]
fn the_engine_library_is_behind_one_file() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if path == "store/src/engine/sled.rs" || path.starts_with("tests/") {
            continue;
        }
        for (number, line) in code(&text) {
            // The module of that name is ours; its types start with its name.
            let ours = line.replace("sled::Sled", "").replace("sled::{Sled", "");
            if ours.contains("sled::") || ours.contains("use sled") {
                found.push(format!("{path}:{number}: {line}"));
            }
        }
    }
    expect_none("only store/src/engine/sled.rs names sled", &found);
}

#[test]
fn the_consensus_library_is_behind_one_folder() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let allowed = path.starts_with("server/src/raft/") || path == "server/src/replica.rs";
        if allowed || path.starts_with("tests/") {
            continue;
        }
        for (number, line) in code(&text).filter(|(_, line)| line.contains("openraft")) {
            found.push(format!("{path}:{number}: {line}"));
        }
    }
    expect_none("only server/src/raft/ and server/src/replica.rs name openraft", &found);
}

/// The packages that a package is linked with: (distance, name).
fn dependencies(package: &str) -> Vec<(usize, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges=normal", "--prefix=depth", "--package", package])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let parse = |line: &str| {
        let digits = line.find(|c: char| !c.is_ascii_digit())?;
        let name = line[digits..].split(' ').next()?;
        Some((line[..digits].parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

fn check_dependencies(package: &str, forbidden: &[&str], forbidden_directly: &[&str]) {
    let all = dependencies(package);
    assert!(all.len() > 3, "{package} has dependencies");
    let found: Vec<String> = all
        .iter()
        .filter(|(depth, name)| {
            forbidden.contains(&name.as_str())
                || (*depth == 1 && forbidden_directly.contains(&name.as_str()))
        })
        .map(|(depth, name)| format!("{name} at depth {depth}"))
        .collect();
    expect_none(&format!("{package} must not know"), &found);
}

#[test]
fn the_store_is_deterministic_by_what_it_does_not_know() {
    // sled brings its own rand; what counts is that nothing of ours can call it.
    check_dependencies("kvd-store", &["tokio", "tonic", "openraft", "clap", "hyper"], &["rand"]);
}

#[test]
fn black_box_tests_do_not_look_inside() {
    check_dependencies("kvd-tests", &["kvd-store", "kvd-server", "openraft", "sled"], &[]);
    check_dependencies("kvctl", &["kvd-store", "kvd-server", "openraft", "sled"], &[]);
}
