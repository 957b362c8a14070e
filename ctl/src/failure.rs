//! How a command fails: an exit code of etcdctl's and one line for stderr.

use std::error::Error;

use proto::etcdserverpb::ResponseHeader;
use tonic::{Code, Status};

use crate::{tls_words, transport};

/// Exit codes with etcdctl's meaning. Success is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The server refused, or the command line does not parse.
    Error,
    BadConnection,
    /// Bad lines on stdin (txn, interactive watch).
    InvalidInput,
    /// A known flag with a value that is not supported.
    BadFeature,
    /// The server ended the watch.
    Interrupted,
    BadArguments,
    /// That of a program that was run.
    Program(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::BadConnection => 2,
            Self::InvalidInput => 3,
            Self::BadFeature => 4,
            Self::Interrupted => 5,
            Self::BadArguments => 128,
            Self::Program(code) => code,
        }
    }
}

/// A failed command. `line` is complete: it begins with who says it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) line: String,
}

impl Failure {
    /// Something that kvctl itself says.
    pub(crate) fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { exit, line: format!("kvctl: {message}") }
    }

    /// Something that the server says, in etcdctl's words.
    pub(crate) fn answer(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { exit, line: format!("Error: {message}") }
    }

    pub(crate) fn bad_arguments(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::BadArguments, message)
    }

    /// What a call to `endpoint` ended with.
    pub(crate) fn of_call(endpoint: &str, status: &Status) -> Self {
        match connection_error(status) {
            Some(reason) => Self::new(Exit::Error, lost(endpoint, &reason)),
            None => Self::answer(Exit::Error, server_text(status)),
        }
    }

    /// The command failed and has already said so.
    pub(crate) fn told(exit: Exit) -> Self {
        Self { exit, line: String::new() }
    }

    /// The line without who says it.
    pub(crate) fn text(&self) -> &str {
        let line = self.line.as_str();
        line.strip_prefix("kvctl: ").or_else(|| line.strip_prefix("Error: ")).unwrap_or(line)
    }

    pub(crate) fn no_endpoints() -> Self {
        let message = "no available endpoints; name at least one with --endpoints host:2379";
        Self::new(Exit::BadConnection, message)
    }

    /// An answer without a header: whoever listens there is no etcd.
    pub(crate) fn not_etcd(endpoint: &str) -> Self {
        Self::new(
            Exit::Error,
            format!(
                "{endpoint} sent an answer that etcd never sends; is it kvd that listens there?"
            ),
        )
    }
}

/// The header, which every answer of a real server has.
pub(crate) fn header(header: Option<&ResponseHeader>) -> Result<&ResponseHeader, Failure> {
    header.ok_or_else(|| Failure::not_etcd("the endpoint"))
}

fn lost(endpoint: &str, reason: &str) -> String {
    let advice = advice(reason).unwrap_or(
        "is it kvd's client port, and does it want TLS (https:// with --cacert) or another --cert?",
    );
    format!("no answer from {endpoint}: {reason}; {advice}")
}

/// What to do about the reason why a connection failed, if the reason alone says it.
pub(crate) fn advice(reason: &str) -> Option<&'static str> {
    let reason = reason.to_lowercase();
    let about = |word| reason.contains(word);
    if let Some(advice) = tls_words::advice(&reason) {
        Some(advice)
    } else if about("handshake") || about("tls") || about("corrupt message") {
        Some("does it speak TLS? if not, write http:// before the address")
    } else if about("lookup") {
        Some("check the name in --endpoints")
    } else {
        None
    }
}

/// Why the connection failed under the call, or `None` if the server itself answered with `status`.
pub(crate) fn connection_error(status: &Status) -> Option<String> {
    let reason = status.source().map(root_cause)?;
    let says_little = reason == "connection closed" || reason.starts_with("operation was canceled");
    Some(transport::last_trouble().filter(|_| says_little).unwrap_or(reason))
}

/// The innermost error says what really happened; an operating system's error without its number.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if let Some(reason) = tls_words::reason(cause) {
        return reason;
    }
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The server's words as Go's client prints them: etcd's own errors bare, others with their code.
pub(crate) fn server_text(status: &Status) -> String {
    if status.message().starts_with("etcdserver: ") {
        return status.message().to_owned();
    }
    format!("rpc error: code = {} desc = {}", code_name(status.code()), status.message())
}

/// The code as Go spells it, which is how Rust does, too, with two exceptions.
fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_errors_read_as_in_etcdctl() {
        let known = Status::invalid_argument("etcdserver: key is not provided");
        assert_eq!(Failure::of_call("e", &known).line, "Error: etcdserver: key is not provided");
        let other = Status::unimplemented("unknown service");
        assert_eq!(
            Failure::of_call("e", &other).line,
            "Error: rpc error: code = Unimplemented desc = unknown service"
        );
    }

    #[test]
    fn a_broken_connection_is_told_with_its_cause() {
        let refused = std::io::Error::from_raw_os_error(111);
        let status = Status::from_error(Box::new(refused));
        let line = Failure::of_call("h:1", &status).line;
        assert!(line.starts_with("kvctl: no answer from h:1: connection refused; "), "{line}");
    }
}
