//! A setting that cannot be used: what, why, and what to do about it, on one line.

use std::fmt;

use super::settings::Origin;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    what: String,
    why: String,
    remedy: String,
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
