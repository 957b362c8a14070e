//! What etcd's clients say about a call beside its message.

use http::HeaderMap;
use tonic::Status;

/// Whether the client would rather have an error than an answer of a member without a leader.
pub fn needs_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

/// The version of the client's API says nothing that changes an answer, but has to be text.
pub fn check_version(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get("client-api-version") {
        Some(version) if std::str::from_utf8(version.as_bytes()).is_err() => {
            Err(Status::invalid_argument("etcdserver: invalid client api version"))
        }
        _ => Ok(()),
    }
}
