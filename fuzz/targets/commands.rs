//! Commands of the log, as another member could send them: no client's request was checked.
#![no_main]

use kvd_fuzz::machine::Machine;
use kvd_fuzz::pieces::Pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut machine = Machine::default();
    for (_, bytes) in Pieces::new(input) {
        machine.command(bytes);
    }
    machine.finish();
});
