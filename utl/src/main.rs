//! kvutl: looks at the files of a member that does not run, or at a snapshot.
//!
//! It takes etcdutl's commands and flags, and where etcdutl 3.6 prints something, kvutl prints the same
//! bytes. Nothing here changes what it reads. In reading order: `cmd` does what was asked, `format` makes
//! the answer's text, `print` writes it, `failure` is what can go wrong.

mod cmd;
mod failure;
mod format;
mod overlay;
mod print;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::failure::{Exit, Failure};

/// Works on kvd's and etcd's files
#[derive(Parser, Debug)]
#[command(
    name = "kvutl",
    version,
    infer_subcommands = true,
    args_override_self = true,
    after_help = "Exit codes: 0 success, 1 error, 4 unsupported value, 128 bad arguments.

Examples:
  kvutl snapshot status backup.db -w table
  kvutl hashkv backup.db
  kvutl wal verify default.kvd"
)]
struct Cli {
    /// simple, fields, json or table
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "simple")]
    write_out: String,
    #[command(subcommand)]
    command: Option<cmd::Command>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => print::failure(&failure),
    }
}

fn run() -> Result<(), Failure> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if is_help(&error) => return print::page(&error.render().to_string()),
        Err(error) => return Err(misused(&error)),
    };
    match cli.command {
        Some(command) => command.run(&cli.write_out),
        None => print::page(&Cli::command().render_help().to_string()),
    }
}

/// Whether clap did not fail but was asked for help or the version, or a subcommand is left to choose.
fn is_help(error: &clap::Error) -> bool {
    !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// What is wrong with a command line, and what was meant perhaps, in one line.
fn misused(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut why: Vec<&str> = Vec::new();
    // The first line, the names below it if there are any, and the tip.
    for line in text.lines() {
        let line = line.trim();
        match line.strip_prefix("tip: ") {
            Some(tip) => why.push(tip),
            None if line.is_empty() || line.starts_with("Usage:") => {}
            None if line.starts_with("For more information") => {}
            None => why.push(line.trim_start_matches("error: ").trim_end_matches(':')),
        }
    }
    Failure::new(Exit::Error, format!("{}; see 'kvutl --help'", why.join("; ")))
}
