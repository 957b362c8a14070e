//! How a command ends when it fails: an exit code, and one line that says what to do.

use std::path::Path;

use store::Fatal;

/// Exit codes with etcdutl's meaning. Success is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Error = 1,
    /// A known flag with a value that is not supported.
    BadFeature = 4,
    BadArguments = 128,
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Files that cannot be read, or are not what they should be.
    pub(crate) fn of_files(fatal: &Fatal) -> Self {
        let message = match fatal {
            Fatal::Io { operation, path, source } => cannot(operation, path, source),
            damaged => damaged.to_string().trim_end_matches('.').to_owned(),
        };
        Self::new(Exit::Error, message)
    }
}

/// The operating system's refusal, without its number, and what helps.
pub(crate) fn cannot(operation: &str, path: &Path, source: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let text = source.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
    let advice = match source.kind() {
        ErrorKind::NotFound => "check the path",
        ErrorKind::PermissionDenied => "run kvutl as the user that owns it",
        ErrorKind::IsADirectory => "name a file in it",
        _ => "check the disk",
    };
    format!("cannot {operation} {}: {text}; {advice}", path.display())
}
