//! The command line, with the rules of Go's flags: `-x=v`, `--x=v`, `--x v`; a boolean is `--x` or
//! `--x=false`, never `--x false`; the last of several wins.

use super::options::{self, Kind, Opt};
use super::settings::{Origin, Settings};
use super::{Error, suggest};

pub(super) enum CommandLine {
    Help,
    Version,
    Flags(Vec<Flag>),
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
pub(super) fn parse(args: &[String]) -> Result<CommandLine, Error> {
    let mut flags: Vec<Flag> = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(body) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Err(positional(arg, flags.last()));
        };
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (body, None),
        };
        match name {
            "help" | "h" => return Ok(CommandLine::Help),
            "version" => return Ok(CommandLine::Version),
            _ => {}
        }
        let typed = format!("--{name}");
        let option = options::by_name(name).ok_or_else(|| unknown(&typed, name))?;
        let value = match (value, option.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".into(),
            (None, _) => args.next().cloned().ok_or_else(|| {
                Error::new(&typed, "needs a value", format!("write {typed}=...")).usage()
            })?,
        };
        flags.push(Flag { option, value, typed });
    }
    Ok(CommandLine::Flags(flags))
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
            "gateway" | "grpc-proxy" => "kvd has no proxies yet".into(),
            _ => "options start with --, see kvd --help".into(),
        },
    };
    Error::new(format!("\"{arg}\""), "kvd takes options only", remedy).usage()
}
