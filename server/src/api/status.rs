//! The one table from refusals to etcd's codes and texts. Clients compare the texts.

use store::{ReadError, Refusal};
use tonic::{Code, Status};

use crate::replica::Unavailable;

/// An etcd error: its texts all begin alike.
fn etcd(code: Code, text: impl std::fmt::Display) -> Status {
    Status::new(code, format!("etcdserver: {text}"))
}

pub fn refused(refusal: Refusal) -> Status {
    let code = match refusal {
        Refusal::EmptyKey
        | Refusal::KeyNotFound
        | Refusal::ValueProvided
        | Refusal::LeaseProvided
        | Refusal::TooManyOps
        | Refusal::DuplicateKey
        | Refusal::InvalidSortOption => Code::InvalidArgument,
        Refusal::Compacted | Refusal::FutureRevision => Code::OutOfRange,
        Refusal::NoSpace => Code::ResourceExhausted,
        Refusal::LeaseNotFound => Code::NotFound,
    };
    etcd(code, refusal)
}

pub fn unavailable(why: Unavailable) -> Status {
    match why {
        // etcd's server sends this one without a code of its own.
        Unavailable::TooManyRequests => etcd(Code::Unknown, "too many requests"),
        Unavailable::RequestTooLarge => etcd(Code::InvalidArgument, "request is too large"),
        Unavailable::NoSpace => refused(Refusal::NoSpace),
        Unavailable::NoLeader => etcd(Code::Unavailable, "no leader"),
        Unavailable::Stopped => etcd(Code::Unavailable, "server stopped"),
        Unavailable::Timeout => etcd(Code::Unavailable, "request timed out"),
        Unavailable::LeaderFailed => {
            etcd(Code::Unavailable, "request timed out, possibly due to previous leader failure")
        }
    }
}

/// A failing disk ends the process; the client only learns that this member cannot answer.
pub fn read_failed(error: ReadError) -> Status {
    match error {
        ReadError::Refused(refusal) => refused(refusal),
        ReadError::Fatal(fatal) => crate::stop::fatal(&fatal),
    }
}

/// For calls that belong to etcd's API and that kvd does not answer yet.
pub fn unimplemented(method: &str) -> Status {
    Status::new(Code::Unimplemented, format!("kvd does not implement {method} yet"))
}
