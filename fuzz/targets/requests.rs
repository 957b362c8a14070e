//! Clients' requests: decoded, checked, carried out.
#![no_main]

use kvd_fuzz::machine::Machine;
use kvd_fuzz::pieces::Pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut machine = Machine::default();
    for (kind, bytes) in Pieces::new(input) {
        machine.request(kind, bytes);
    }
    machine.finish();
});
