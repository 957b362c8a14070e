//! Command lines as cobra reads them, on top of clap: `--flag=false`, and errors of one line.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::{ArgAction, Parser};

use crate::go;

/// Parses `args` (with the program's name unless `T` has none).
pub(crate) fn parse<T: Parser>(args: Vec<OsString>) -> Result<T, clap::Error> {
    let mut command = T::command();
    command.build();
    let mut flags = BTreeSet::new();
    collect_switches(&command, &mut flags);
    T::try_parse_from(without_switch_values(&flags, args))
}

/// Names of the flags that are on or off.
fn collect_switches(command: &clap::Command, into: &mut BTreeSet<String>) {
    let switches = command.get_arguments().filter(|a| matches!(a.get_action(), ArgAction::SetTrue));
    into.extend(switches.filter_map(|argument| argument.get_long().map(str::to_owned)));
    command.get_subcommands().for_each(|command| collect_switches(command, into));
}

/// Go's switches take a value: `--prefix=true` becomes `--prefix`, and `--prefix=false` takes back any
/// `--prefix` before it.
fn without_switch_values(flags: &BTreeSet<String>, args: Vec<OsString>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::with_capacity(args.len());
    let mut args = args.into_iter();
    for arg in args.by_ref() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        match switch(flags, &arg) {
            Some((flag, true)) => out.push(flag.into()),
            Some((flag, false)) => out.retain(|earlier| *earlier != *flag),
            None => out.push(arg),
        }
    }
    out.extend(args);
    out
}

/// The switch (with its dashes) and the value of `--switch=value`.
fn switch(flags: &BTreeSet<String>, arg: &OsStr) -> Option<(String, bool)> {
    let (flag, value) = arg.to_str()?.split_once('=')?;
    let known = flags.contains(flag.strip_prefix("--")?);
    Some((flag.to_owned(), go::parse_bool(value).ok().filter(|_| known)?))
}

/// Whether clap did not fail but was asked for help.
pub(crate) fn is_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
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

    fn check(args: &[&str], expected: &[&str]) {
        let flags = BTreeSet::from(["prefix".to_owned(), "hex".to_owned()]);
        let out = without_switch_values(&flags, args.iter().map(OsString::from).collect());
        assert_eq!(out, expected, "{args:?}");
    }

    #[test]
    fn switches_take_gos_values() {
        check(&["get", "--prefix=true", "a"], &["get", "--prefix", "a"]);
        check(&["get", "--prefix", "--prefix=F", "a"], &["get", "a"]);
        check(&["get", "--hex=1", "--prefix=0", "a"], &["get", "--hex", "a"]);
        check(&["get", "--prefix=maybe"], &["get", "--prefix=maybe"]);
        check(
            &["put", "--rev=1", "--", "--prefix=true"],
            &["put", "--rev=1", "--", "--prefix=true"],
        );
    }
}
