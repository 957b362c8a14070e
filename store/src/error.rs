//! The two kinds of failure. A [`Refusal`] is an answer and part of replicated history; a
//! [`Fatal`] means this process must stop, because what it would do next cannot be trusted.

use std::path::PathBuf;

/// Why a request was not carried out. Deterministic: every member refuses the same command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("key is not provided")]
    EmptyKey,
    #[error("key not found")]
    KeyNotFound,
    #[error("value is provided")]
    ValueProvided,
    #[error("lease is provided")]
    LeaseProvided,
    #[error("too many operations in txn request")]
    TooManyOps,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("invalid sort option")]
    InvalidSortOption,
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("mvcc: database space exceeded")]
    NoSpace,
    #[error("corrupt cluster")]
    Corrupt,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("member not found")]
    MemberNotFound,
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    #[error("root user does not exist")]
    RootUserMissing,
    #[error("root user does not have root role")]
    RootRoleMissing,
    #[error("user name is empty")]
    UserEmpty,
    #[error("user name already exists")]
    UserExists,
    #[error("user name not found")]
    UserNotFound,
    #[error("role name is empty")]
    RoleEmpty,
    #[error("role name already exists")]
    RoleExists,
    #[error("role name not found")]
    RoleNotFound,
    #[error("role is not granted to the user")]
    RoleNotGranted,
    #[error("permission not given")]
    PermissionNotGiven,
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    #[error("permission denied")]
    PermissionDenied,
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    #[error("authentication failed, invalid user ID or password")]
    AuthFailed,
    #[error("invalid auth management")]
    InvalidAuthManagement,
    #[error("invalid auth token")]
    InvalidAuthToken,
    #[error("revision of auth store is old")]
    OldAuthRevision,
}

/// Why this member has to stop. The log says it, the process exits, the supervisor restarts it.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The disk failed. What was written before the last successful sync is safe; nothing is
    /// retried, because after a failed sync the kernel may have dropped the data.
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    /// Stored bytes fail their checks.
    #[error("{} is damaged at offset {offset}: {what}. {remedy}", path.display())]
    Damaged { path: PathBuf, offset: u64, what: String, remedy: String },
    /// The engine failed or holds something it cannot hold. The engine can be rebuilt.
    #[error("engine: {0}")]
    Engine(String),
}

impl Fatal {
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { operation, path: path.into(), source }
    }
}

/// A read either is refused or meets a failing disk.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Fatal(#[from] Fatal),
}
