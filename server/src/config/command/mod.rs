//! `kvd config check` and `kvd config show`: what a start would find, without starting.
//!
//! Both take the options, variables and the file of a start. `check` builds the configuration as a
//! start does, then looks at what a start would open; unlike a start it goes on after the first
//! mistake, by leaving out what was wrong and trying again.

mod check;
mod preflight;
mod show;
#[cfg(test)]
mod tests;

use super::flags::{self, CommandLine};
use super::{Error, gather};

const HELP: &str = "\
kvd config: look at the configuration without starting

Usage: kvd config check [--output text|json] [options of kvd]
       kvd config show  [--output table|json|yaml] [--given] [options of kvd]

check  Says everything that would keep a start from working, with what to do about it: options, the
       config file, certificates and keys, the data directory, addresses, the list of members.
       Exits with 0 if there is nothing, with 1 if there is; warnings do not count.
show   Prints every option with its value and where that came from: a flag, a variable, a line of
       the config file, or the default. Secrets are masked. yaml is a config file.

Options:
  --output, -o <format>
      How to print.
  --given
      Leave out what has its default.

Variables and the file that --config-file or KVD_CONFIG_FILE names count as they do for a start.

Examples:
  kvd config check --config-file /etc/kvd/kvd.yaml
      Before a restart: is the new file good?
  kvd config show --given --config-file /etc/kvd/kvd.yaml
      What the file, the variables and nothing else have set.
  kvd config show --output yaml --name n1 --cert-file server.crt --key-file server.key >kvd.yaml
      Turn a command line into a config file.
  kvd config show --output json | jq -r '.options[] | select(.name == \"data-dir\").value'
      One value, for scripts.
";

/// What the command says, and its exit code.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub stdout: String,
    pub stderr: String,
    pub code: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Check,
    Show,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    /// For people.
    Text,
    Json,
    Yaml,
}

/// `args` are those after `config`.
pub(super) fn run(args: &[String], variables: &[(String, String)]) -> Result<Report, Error> {
    let command = match args.first().map(String::as_str) {
        Some("check") => Command::Check,
        Some("show") => Command::Show,
        None | Some("--help" | "-help" | "-h" | "help") => return Ok(help()),
        Some(other) => {
            let why = "is neither check nor show";
            return Err(Error::new(format!("\"{other}\""), why, "see kvd config --help").usage());
        }
    };
    let Asked { output, given, rest } = Asked::read(command, &args[1..])?;
    let settings = match flags::parse(&rest) {
        CommandLine::Help => return Ok(help()),
        CommandLine::Version => {
            return Ok(Report { stdout: super::version(), ..Report::default() });
        }
        CommandLine::Flags(flags, problems) => {
            gather(flags, problems, variables, |path| std::fs::read_to_string(path))
        }
    };
    Ok(match command {
        Command::Check => check::report(settings, output),
        Command::Show => show::report(&settings, output, given),
    })
}

fn help() -> Report {
    Report { stdout: HELP.into(), ..Report::default() }
}

/// The command's own options, and the rest, which are kvd's.
struct Asked {
    output: Output,
    given: bool,
    rest: Vec<String>,
}

impl Asked {
    fn read(command: Command, args: &[String]) -> Result<Asked, Error> {
        let mut asked = Asked { output: Output::Text, given: false, rest: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (arg.as_str(), None),
            };
            match name {
                "--output" | "-output" | "-o" => {
                    let value = value.or_else(|| args.next().map(String::as_str));
                    asked.output = output(command, value.unwrap_or_default())?;
                }
                "--given" | "-given" if command == Command::Show && value.is_none() => {
                    asked.given = true;
                }
                _ => asked.rest.push(arg.clone()),
            }
        }
        Ok(asked)
    }
}

fn output(command: Command, text: &str) -> Result<Output, Error> {
    match (command, text) {
        (Command::Check, "text") | (Command::Show, "table") => Ok(Output::Text),
        (_, "json") => Ok(Output::Json),
        (Command::Show, "yaml") => Ok(Output::Yaml),
        _ => {
            let known = match command {
                Command::Check => "text or json",
                Command::Show => "table, json or yaml",
            };
            let why = format!("must be {known}, not \"{text}\"");
            Err(Error::new("--output", why, "see kvd config --help").usage())
        }
    }
}
