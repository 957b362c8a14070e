//! Asks for a password on the terminal, without showing what is typed.

use std::io::BufRead;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failure::{Exit, Failure};
use crate::print;

pub(crate) fn ask(prompt: &str) -> Result<String, Failure> {
    print::prompt(prompt);
    let stdin = std::io::stdin();
    // Where stdin is no terminal there is nothing to hide, and nothing to restore.
    let before = tcgetattr(&stdin).ok();
    if let Some(before) = &before {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(cannot_read)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(before) = &before {
        tcsetattr(&stdin, OptionalActions::Flush, before).map_err(cannot_read)?;
        print::prompt("\n");
    }
    match read {
        Ok(0) => Err(cannot_read("nothing was typed")),
        Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(cannot_read(error)),
    }
}

/// The first word of standard input, empty if there is none.
pub(crate) fn from_stdin() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(cannot_read)?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

fn cannot_read(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Error, format!("cannot read the password: {why}; pass --password"))
}
