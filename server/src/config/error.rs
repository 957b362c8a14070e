//! A setting that cannot be used: what, why, and what to do about it, on one line.

use std::fmt;

use super::settings::Origin;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub(super) what: String,
    pub(super) why: String,
    pub(super) remedy: String,
    /// The command line itself is wrong, which etcd answers with exit code 2.
    usage: bool,
}

impl Error {
    pub(super) fn new(
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        Error { what: what.into(), why: why.into(), remedy: remedy.into(), usage: false }
    }

    /// From a sentence that has the three parts, as others say it.
    pub(super) fn of_text(text: &str) -> Error {
        let (what, rest) = text.split_once(": ").unwrap_or(("the configuration", text));
        let (why, remedy) = rest.split_once("; ").unwrap_or((rest, "correct it"));
        Error::new(what, why, remedy)
    }

    /// The same as a mistake on the command line.
    pub(super) fn usage(mut self) -> Error {
        self.usage = true;
        self
    }

    /// As `new`, about a value: only a flag's own mistakes count as a wrong command line.
    pub(super) fn of_value(
        origin: &Origin,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        let mut error = Error::new(origin.to_string(), why, remedy);
        error.usage = matches!(origin, Origin::Flag(_));
        error
    }

    /// Whether this place, as it is told to people, is what the error is about.
    pub(super) fn is_about(&self, place: &str) -> bool {
        self.what == place
    }

    /// 2 for a wrong command line, 1 for settings that do not work.
    pub fn exit_code(&self) -> u8 {
        if self.usage { 2 } else { 1 }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.why, self.remedy)
    }
}

impl std::error::Error for Error {}
