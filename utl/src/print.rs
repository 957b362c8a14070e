//! The only file that prints: data to stdout, everything else to stderr.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use crate::failure::{Exit, Failure};

/// Writes to stdout. A reader that went away has seen what it wanted: that is success.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Error, format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes text that ends where its last line does, or after it.
pub(crate) fn page(text: &str) -> Result<(), Failure> {
    data(&format!("{}\n", text.trim_end()))
}

/// Tells how the command failed and turns that into the process's exit code.
pub(crate) fn failure(failure: &Failure) -> ExitCode {
    // Nobody is left to tell that stderr is closed.
    let _ = writeln!(std::io::stderr(), "kvutl: {}", failure.message);
    ExitCode::from(failure.exit as u8)
}
