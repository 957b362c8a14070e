//! The JSON gateway: bodies of every path, in pieces, and responses.
//!
//! The input is `path | size of the pieces | body`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use server::fuzzing::gateway;

static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| gateway::paths().collect());

fuzz_target!(|input: &[u8]| {
    let [path, piece, body @ ..] = input else { return };
    let path = &PATHS[usize::from(*path) % PATHS.len()];
    match piece {
        0 => gateway::response(path, body),
        piece => gateway::request(path, body, usize::from(*piece)),
    }
});
