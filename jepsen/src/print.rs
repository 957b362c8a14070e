//! The only file that prints: verdicts to stdout, progress to stderr.

use std::io::{self, Write};

pub(crate) fn verdict(line: &str) {
    // Whoever read the other end has seen enough; the exit code says the rest.
    let _ = writeln!(io::stdout(), "{line}");
}

pub(crate) fn progress(line: &str) {
    // Progress is not worth failing for.
    let _ = writeln!(io::stderr(), "{line}");
}
