//! The only file that prints: data to stdout, everything else to stderr.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use crate::failure::{Exit, Failure};
use crate::format::{Answer, Style};

/// Prints an answer in the style that was asked for.
pub(crate) fn answer(style: Style, answer: &Answer<'_>) -> Result<(), Failure> {
    data(&style.render(answer)?)
}

/// Prints a line of data.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    data(format!("{text}\n").as_bytes())
}

/// Writes to stdout at once. A reader that went away has seen what it wanted: that ends the process
/// successfully.
pub(crate) fn data(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(Exit::Error, format!("cannot write to stdout: {error}"))),
    }
}

/// Prints a line for the person in front of the terminal.
pub(crate) fn note(text: &str) {
    // Nobody is left to tell that stderr is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Asks on stderr; the answer is typed on the same line.
pub(crate) fn prompt(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Tells how the command failed and turns that into the process's exit code.
pub(crate) fn failure(failure: &Failure) -> ExitCode {
    if !failure.line.is_empty() {
        note(&failure.line);
    }
    ExitCode::from(failure.exit.code())
}
