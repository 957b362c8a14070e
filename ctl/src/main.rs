//! kvctl: kvd's (and etcd's) keys, watches and endpoints from the command line.
//!
//! It speaks etcd's v3 API and takes etcdctl's commands, flags, variables and input; where etcdctl 3.6
//! prints something, kvctl prints the same bytes. What kvctl has to say itself is one line on stderr:
//! what was tried, why it failed, what to do. In reading order: `arguments` and `options` are what the
//! user wants, `cmd` does it over a `session`, `format` makes the answer's bytes, `print` writes them.

mod arguments;
mod environment;
mod options;
mod password;

mod cmd;
mod compare;
mod keys;
mod line;

mod presence;
mod session;
mod stream;
mod transport;

mod failure;
mod format;
mod go;
mod print;
mod tls_words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::failure::{Exit, Failure};

/// Command line client of kvd, for every server that speaks etcd's v3 API
#[derive(Parser, Debug)]
#[command(
    name = "kvctl",
    version,
    infer_subcommands = true,
    args_override_self = true,
    after_help = "Every global option can be set in the environment: --dial-timeout is KVCTL_DIAL_TIMEOUT or
ETCDCTL_DIAL_TIMEOUT. A flag wins over KVCTL_*, and contradicts ETCDCTL_* as in etcdctl.
Exit codes: 0 success, 1 error, 2 no connection, 3 bad input, 4 unsupported value, 5 watch ended,
128 bad arguments.

Examples:
  kvctl put name value
  kvctl get --prefix /app/
  kvctl watch name --rev 1
  kvctl --endpoints pi1:2379,pi2:2379 endpoint status -w table"
)]
struct Cli {
    #[command(flatten)]
    globals: options::GlobalArgs,
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
    let args: Vec<_> = std::env::args_os().collect();
    let cli = match arguments::parse::<Cli>(&args) {
        Ok(cli) => cli,
        Err(error) if arguments::is_help(&error) => {
            return print::line(error.render().to_string().trim_end());
        }
        Err(error) => {
            let why = arguments::one_line(&error);
            return Err(Failure::new(Exit::Error, format!("{why}; see 'kvctl --help'")));
        }
    };
    let Some(command) = cli.command else {
        return print::line(Cli::command().render_help().to_string().trim_end());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Error, format!("cannot start a runtime: {error}")))?;
    runtime.block_on(command.run(&cli.globals))
}
