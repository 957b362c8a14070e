//! What other members send: append, vote, transfer, snapshot pieces, proposals, and what entries hold.
//!
//! The input is `kind | message`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use server::fuzzing::raft;

fuzz_target!(|input: &[u8]| {
    if let Some((kind, message)) = input.split_first() {
        raft::message(*kind, message);
    }
});
