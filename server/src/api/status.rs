//! The one table from refusals to etcd's codes and texts. Clients compare the texts.

use store::{ReadError, Refusal};
use tonic::{Code, Status};

use crate::auth::{Denied, PasswordError};
use crate::raft::ChangeError;
use crate::replica::{AdminError, Unavailable};

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
        | Refusal::InvalidSortOption
        | Refusal::UserEmpty
        | Refusal::RoleEmpty
        | Refusal::PermissionNotGiven
        | Refusal::AuthFailed
        | Refusal::InvalidAuthManagement
        | Refusal::OldAuthRevision => Code::InvalidArgument,
        Refusal::Compacted | Refusal::FutureRevision | Refusal::LeaseTtlTooLarge => {
            Code::OutOfRange
        }
        Refusal::NoSpace => Code::ResourceExhausted,
        Refusal::Corrupt => Code::DataLoss,
        Refusal::LeaseNotFound | Refusal::MemberNotFound => Code::NotFound,
        Refusal::PeerUrlExists
        | Refusal::LeaseExists
        | Refusal::RootUserMissing
        | Refusal::RootRoleMissing
        | Refusal::UserExists
        | Refusal::UserNotFound
        | Refusal::RoleExists
        | Refusal::RoleNotFound
        | Refusal::RoleNotGranted
        | Refusal::PermissionNotGranted
        | Refusal::AuthNotEnabled => Code::FailedPrecondition,
        Refusal::PermissionDenied => Code::PermissionDenied,
        Refusal::InvalidAuthToken => Code::Unauthenticated,
    };
    etcd(code, refusal)
}

impl From<Denied> for Status {
    fn from(Denied(why): Denied) -> Status {
        refused(why)
    }
}

/// etcd has no text for this.
pub fn name_too_long() -> Status {
    let most = crate::limits::NAME_BYTES_MAX;
    etcd(Code::InvalidArgument, format!("the name is longer than {most} bytes"))
}

pub fn unavailable(why: Unavailable) -> Status {
    match why {
        // etcd's server loses the code of this one on the way; its clients go by the text.
        Unavailable::TooManyRequests => etcd(Code::ResourceExhausted, "too many requests"),
        Unavailable::RequestTooLarge => etcd(Code::InvalidArgument, "request is too large"),
        Unavailable::NoSpace => refused(Refusal::NoSpace),
        Unavailable::NoLeader => etcd(Code::Unavailable, "no leader"),
        Unavailable::Stopped => etcd(Code::Unavailable, "server stopped"),
        Unavailable::NeverProposed => Status::deadline_exceeded("context deadline exceeded"),
        Unavailable::Timeout => etcd(Code::Unavailable, "request timed out"),
        Unavailable::AnswerDropped => {
            etcd(Code::Unavailable, "the request was done, but too many responses wait to be read")
        }
        Unavailable::LeaderFailed => {
            etcd(Code::Unavailable, "request timed out, possibly due to previous leader failure")
        }
    }
}

/// Why there is no watcher, as etcd writes it into the answer.
pub fn watch_refused(refusal: Refusal) -> String {
    let told = match refusal {
        Refusal::InvalidAuthToken | Refusal::OldAuthRevision | Refusal::UserEmpty => refusal,
        _ => Refusal::PermissionDenied,
    };
    let status = refused(told);
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// etcd's server sends these without a code of their own, in Go's words.
pub fn no_password_user() -> Status {
    let text = "auth: authentication failed, password was given for no password user";
    Status::unknown(text)
}

pub fn verify_only() -> Status {
    Status::unknown("auth: token signing attempted with verify-only key")
}

pub fn password(error: PasswordError) -> Status {
    match error {
        PasswordError::TooLong => Status::unknown("bcrypt: password length exceeds 72 bytes"),
        PasswordError::Busy => unavailable(Unavailable::TooManyRequests),
    }
}

pub fn bad_member_urls() -> Status {
    etcd(Code::InvalidArgument, "given member URLs are invalid")
}

pub fn no_cluster_version() -> Status {
    etcd(Code::FailedPrecondition, "cluster version not found during downgrade")
}

pub fn bad_downgrade_format() -> Status {
    etcd(Code::InvalidArgument, "wrong downgrade target version format")
}

pub fn bad_downgrade_target() -> Status {
    etcd(Code::InvalidArgument, "invalid downgrade target version")
}

pub fn downgrade_in_progress() -> Status {
    etcd(Code::FailedPrecondition, "cluster has a downgrade job in progress")
}

/// For calls that a member without a vote does not answer.
pub fn not_for_learner() -> Status {
    etcd(Code::FailedPrecondition, "rpc not supported for learner")
}

/// Why the members or their leader stay who they are.
pub fn not_done(error: AdminError) -> Status {
    match error {
        AdminError::Unavailable(why) => unavailable(why),
        AdminError::NotLeader => etcd(Code::FailedPrecondition, "not leader"),
        AdminError::BadTransferee => etcd(Code::FailedPrecondition, "bad leader transferee"),
        // etcd's server sends this one without a code of its own.
        AdminError::TransferTimeout => {
            etcd(Code::Unknown, "request timed out, leader transfer took too long")
        }
        AdminError::Refused(why) => unchanged(why),
    }
}

fn unchanged(why: ChangeError) -> Status {
    let failed = |text| etcd(Code::FailedPrecondition, text);
    match why {
        ChangeError::IdExists => failed("member ID already exist"),
        ChangeError::PeerUrlExists => failed("Peer URLs already exists"),
        ChangeError::NotFound => etcd(Code::NotFound, "member not found"),
        ChangeError::NotLearner => failed("can only promote a learner member"),
        ChangeError::LearnerNotReady => {
            failed("can only promote a learner member which is in sync with leader")
        }
        ChangeError::TooManyLearners => failed("too many learner members in cluster"),
        // etcd's server sends this one without a code of its own.
        ChangeError::NotEnoughStarted => {
            etcd(Code::Unknown, "re-configuration failed due to not enough started members")
        }
        ChangeError::Unhealthy => etcd(Code::Unavailable, "unhealthy cluster"),
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
