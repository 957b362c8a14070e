//! The values that were given, still as text, each with the place it came from.

use std::collections::BTreeMap;
use std::fmt;

use super::options::{self, Opt, State};
use super::{Error, gates, value};

/// Where a value was given. Its text names the place in errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The flag as it was typed, `--name`.
    Flag(String),
    Variable(String),
    File {
        path: String,
        line: usize,
        column: usize,
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "{flag}"),
            Origin::Variable(name) => write!(f, "{name}"),
            Origin::File { path, line, column, key } => write!(f, "{path}:{line}:{column}: {key}"),
        }
    }
}

impl Origin {
    /// The name as it was written there.
    fn spelling(&self) -> &str {
        match self {
            Origin::Flag(name) | Origin::Variable(name) => name,
            Origin::File { key, .. } => key,
        }
    }

    /// Whether the option was given under the name it had as an experiment.
    fn is_old_name(&self, option: &Opt) -> bool {
        let spelling = self.spelling().to_ascii_lowercase().replace('_', "-");
        option.experimental && spelling.contains("experimental-")
    }

    fn remove(&self) -> &'static str {
        match self {
            Origin::Flag(_) => "leave the flag out",
            Origin::Variable(_) => "unset the variable",
            Origin::File { .. } => "remove the key",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// What was given, by option name. Later sources replace earlier ones.
#[derive(Clone, Default)]
pub(super) struct Settings {
    given: BTreeMap<&'static str, Given>,
    /// What the sources themselves have wrong, in the order it was met.
    pub(super) problems: Vec<Error>,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Settings {
    /// Nothing given yet, and these problems already.
    pub(super) fn beginning_with(problems: Vec<Error>) -> Settings {
        Settings { problems, ..Settings::default() }
    }

    pub(super) fn set(&mut self, option: &'static Opt, text: String, origin: Origin) {
        if let (Some(Given { origin: Origin::Variable(variable), .. }), Origin::Flag(flag)) =
            (self.given.get(option.name), &origin)
        {
            self.warnings.push(format!("{flag} overrides the variable {variable}"));
        }
        if let Some(before) = self.given.get(option.name)
            && let Some((old, new)) = old_and_new(option, &before.origin, &origin)
        {
            let why = format!("is the old name of {}, which is given as well", new.spelling());
            let remedy = format!("keep {} only", new.spelling());
            self.problems.push(Error::new(old.to_string(), why, remedy));
        }
        self.given.insert(option.name, Given { text, origin });
    }

    pub(super) fn given(&self, name: &str) -> Option<&Given> {
        debug_assert!(options::by_name(name).is_some(), "{name} is not in the table");
        self.given.get(name)
    }

    /// All that was given, with its option's name.
    pub(super) fn all_given(&self) -> impl Iterator<Item = (&'static str, &Given)> {
        self.given.iter().map(|(name, given)| (*name, given))
    }

    /// As if it had not been given.
    pub(super) fn forget(&mut self, name: &str) {
        self.given.remove(name);
    }

    /// The text given, else the default.
    pub(super) fn text(&self, name: &str) -> &str {
        match self.given(name) {
            Some(given) => &given.text,
            None => options::by_name(name).expect("only the table's names are asked for").default,
        }
    }

    /// Parses an option's value; an error names where it was given.
    pub(super) fn parse<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Error> {
        parse(self.text(name)).map_err(|why| self.error(name, why, format!("correct --{name}")))
    }

    /// An error about an option's value, or about its default if none was given.
    pub(super) fn error(
        &self,
        name: &str,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        match self.given(name) {
            Some(given) => Error::of_value(&given.origin, why, remedy),
            None => Error::new(format!("--{name}"), why, remedy),
        }
    }

    /// As in etcd, a gate is switched by its name or by the option that it once was, not by both.
    fn gate_twice(&self) -> Option<Error> {
        let switched = self.text("feature-gates");
        gates::FORMER_OPTIONS.iter().find_map(|(name, gate)| {
            let given = self.given(name).filter(|_| gates::names(switched, gate))?;
            let why = format!("is the old name of the gate {gate}, which --feature-gates switches");
            Some(Error::new(given.origin.to_string(), why, given.origin.remove()))
        })
    }

    /// Checks every value for its kind, refuses what is not supported, notes what has no effect.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        for (name, given) in &self.given {
            let option = options::by_name(name).expect("the names were taken from the table");
            value::check(option.kind, &given.text)
                .map_err(|why| Error::of_value(&given.origin, why, "see kvd --help"))?;
            if given.text.is_empty() || value::same(option.kind, &given.text, option.default) {
                continue;
            }
            match option.state {
                State::Used => {}
                State::Accepted(why) => {
                    self.notes.push(format!("{} has no effect: {why}", given.origin));
                }
                State::Refused(what) => return Err(refused(option, &given.origin, what)),
            }
        }
        if let Some(error) = self.gate_twice() {
            return Err(error);
        }
        self.notes.extend(self.parse("feature-gates", gates::parse)?);
        Ok(())
    }
}

fn refused(option: &Opt, origin: &Origin, what: &str) -> Error {
    let remedy = if option.instead.is_empty() { origin.remove() } else { option.instead };
    // The command line is well-formed, so this is not a wrong usage as etcd counts it.
    Error::new(origin.to_string(), format!("{what} is not supported"), remedy)
}

/// The old name and the new one, if one source has the same option under both, as in etcd an error:
/// which of them is meant to win?
fn old_and_new<'a>(
    option: &Opt,
    one: &'a Origin,
    other: &'a Origin,
) -> Option<(&'a Origin, &'a Origin)> {
    if std::mem::discriminant(one) != std::mem::discriminant(other) {
        return None;
    }
    match (one.is_old_name(option), other.is_old_name(option)) {
        (true, false) => Some((one, other)),
        (false, true) => Some((other, one)),
        _ => None,
    }
}
