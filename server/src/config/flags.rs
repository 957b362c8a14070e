//! The command line, with the rules of Go's flags: `-x=v`, `--x=v`, `--x v`; a boolean is `--x` or
//! `--x=false`, never `--x false`; the last of several wins.

use super::options::{self, Kind, Opt};
use super::settings::{Origin, Settings};
use super::{Error, suggest};

pub(super) enum CommandLine {
    Help,
    Version,
    /// What could be read, and what is wrong with the rest.
    Flags(Vec<Flag>, Vec<Error>),
}

pub(super) struct Flag {
    option: &'static Opt,
    pub(super) value: String,
    /// With two dashes, and as the alias that was typed.
    typed: String,
}

impl Flag {
    pub(super) fn is(&self, name: &str) -> bool {
        self.option.name == name
    }

    pub(super) fn origin(&self) -> Origin {
        Origin::Flag(self.typed.clone())
    }

    pub(super) fn apply(self, settings: &mut Settings) {
        let origin = self.origin();
        settings.set(self.option, self.value, origin);
    }
}

/// Parses the arguments after the program's name.
pub(super) fn parse(args: &[String]) -> CommandLine {
    let mut flags: Vec<Flag> = Vec::new();
    let mut problems = Vec::new();
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let Some(body) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            problems.push(positional(arg, flags.last()));
            continue;
        };
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (body, None),
        };
        match name {
            "help" | "h" => return CommandLine::Help,
            "version" => return CommandLine::Version,
            _ => {}
        }
        let typed = format!("--{name}");
        let Some(option) = options::by_name(name) else {
            problems.push(unknown(&typed, name));
            // What follows is likely its value.
            if value.is_none() {
                args.next_if(|next| !next.starts_with('-'));
            }
            continue;
        };
        let value = match (value, option.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".into(),
            (None, _) => match args.next() {
                Some(value) => value.clone(),
                None => {
                    let remedy = format!("write {typed}=...");
                    problems.push(Error::new(&typed, "needs a value", remedy).usage());
                    continue;
                }
            },
        };
        flags.push(Flag { option, value, typed });
    }
    CommandLine::Flags(flags, problems)
}

fn unknown(typed: &str, name: &str) -> Error {
    let remedy = match suggest::nearest(name, options::all().map(|option| option.name)) {
        Some(near) => format!("did you mean --{near}?"),
        None => "kvd --help lists them all".into(),
    };
    Error::new(typed, "there is no such option", remedy).usage()
}

fn positional(arg: &str, last: Option<&Flag>) -> Error {
    let remedy = match last {
        Some(flag) if flag.option.kind == Kind::Bool && matches!(arg, "true" | "false") => {
            format!("write {}={arg}", flag.typed)
        }
        _ => match arg {
            "gateway" | "grpc-proxy" => "kvd has no proxies: clients can be given the URLs of all \
                                         members"
                .into(),
            "config" => "write it first: kvd config check, kvd config show".into(),
            _ => "options start with --, see kvd --help".into(),
        },
    };
    Error::new(format!("\"{arg}\""), "kvd takes options only", remedy).usage()
}
