//! A connection's bytes before the HTTP library sees them: only authorities that are URLs may change.
//!
//! The input is `size of the reads | bytes`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use server::fuzzing::connection;

fuzz_target!(|input: &[u8]| {
    let Some((piece, sent)) = input.split_first() else { return };
    let given = connection::read(sent, usize::from(*piece), false);
    assert!(given.len() <= sent.len());
    assert_eq!(
        given,
        connection::read(sent, sent.len(), false),
        "the size of the reads makes no difference"
    );
    if !sent.contains(&b'/') && sent.is_ascii() {
        assert_eq!(given, sent, "there was nothing to change");
    }
    let polite = connection::read(sent, usize::from(*piece), true);
    assert!(given.starts_with(&polite), "whoever is sent away has sent what it has sent");
});
