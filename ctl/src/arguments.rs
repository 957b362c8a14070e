//! Command lines as cobra reads them, on top of clap: `--flag=false`, and errors of one line.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, Parser};

use crate::go;

/// Parses `args` (with the program's name unless `T` has none).
pub(crate) fn parse<T: Parser>(args: &[OsString]) -> Result<T, clap::Error> {
    let parsed = as_in_go(T::command()).try_get_matches_from(args);
    match parsed.and_then(|matches| T::from_arg_matches(&matches)) {
        // The help is nicer without the values that nobody writes.
        Err(error) if is_help(&error) => T::try_parse_from(args),
        parsed => parsed,
    }
}

/// The command with flags as Go reads them.
fn as_in_go(command: Command) -> Command {
    command.mut_args(flag_as_in_go).mut_subcommands(as_in_go)
}

/// A switch takes a value: `--prefix` is `--prefix=true`. A flag that needs a value takes what follows,
/// whatever that looks like: `--limit -1`.
fn flag_as_in_go(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        let needs_value = arg.get_long().is_some() && !arg.is_require_equals_set();
        return if needs_value { arg.allow_hyphen_values(true) } else { arg };
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(go::parse_bool)
}

/// Whether clap did not fail but was asked for help, or for the version.
pub(crate) fn is_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion
    )
}

/// What is wrong with a command line, and clap's idea of what was meant.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut lines = text.lines();
    let mut line = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    if line.ends_with(':') {
        // The names of what is missing follow, one a line.
        let names: Vec<&str> =
            text.lines().skip(1).take_while(|line| line.starts_with("  ")).map(str::trim).collect();
        line = format!("{line} {}", names.join(", "));
    }
    if let Some(tip) = lines.find_map(|line| line.trim().strip_prefix("tip: ")) {
        line = format!("{line}; {tip}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A switch, and one that only a subcommand has.
    #[derive(Parser, Debug)]
    #[command(args_override_self = true)]
    struct Line {
        #[arg(short = 'x', long, global = true)]
        hex: bool,
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(clap::Subcommand, Debug)]
    enum Sub {
        Get {
            #[arg(long)]
            prefix: bool,
            args: Vec<String>,
        },
        Put,
    }

    fn check(args: &[&str], hex: bool, prefix: bool, rest: &[&str]) {
        let words: Vec<OsString> = ["kvctl"].iter().chain(args).map(OsString::from).collect();
        let line = parse::<Line>(&words).unwrap();
        let Sub::Get { prefix: is_prefix, args: is_rest } = line.command else {
            panic!("{args:?}")
        };
        assert_eq!((line.hex, is_prefix), (hex, prefix), "{args:?}");
        assert_eq!(is_rest, rest, "{args:?}");
    }

    #[test]
    fn switches_take_gos_values() {
        check(&["get", "a"], false, false, &["a"]);
        check(&["get", "--prefix", "a"], false, true, &["a"]);
        check(&["get", "--prefix=true", "true"], false, true, &["true"]);
        check(&["get", "--prefix", "--prefix=F", "a"], false, false, &["a"]);
        check(&["-x=1", "get", "a", "--prefix=0"], true, false, &["a"]);
        check(&["get", "--hex", "--", "--prefix=true"], true, false, &["--prefix=true"]);
        for bad in ["--prefix=maybe", "--prefix=", "--nope=true"] {
            assert!(parse::<Line>(&["kvctl".into(), "get".into(), bad.into()]).is_err(), "{bad}");
        }
        assert!(parse::<Line>(&["kvctl".into(), "put".into(), "--prefix=false".into()]).is_err());
    }
}
