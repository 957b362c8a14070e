//! etcd's gRPC services, one a file. Each call is: check, ask the replica or the store, answer.
//!
//! What is refused becomes etcd's code and text in [`status`] and nowhere else.

mod auth;
mod cluster;
mod concurrency;
mod downgrade;
mod health;
mod kv;
mod lease;
pub mod maintenance;
pub mod metadata;
mod room;
pub mod status;
pub mod watch;

pub use auth::Auth;
pub use cluster::Cluster;
pub use concurrency::{Caller, Election, Lock};
pub use health::Health;
pub use kv::{Kv, run};
pub use lease::Lease;
pub use maintenance::Maintenance;

use proto::etcdserverpb::ResponseHeader;

use crate::replica::Replica;

/// Who answers: fills in the ids and the term of a response header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
}

impl Identity {
    pub fn header(&self, replica: &Replica, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: replica.standing().term,
        }
    }

    /// Completes the header that the store made, which holds the revision only.
    fn complete(&self, replica: &Replica, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header(replica, revision));
    }
}

/// The state machine answered another command than was proposed: a bug that must not be served.
fn mismatch() -> ! {
    crate::stop::because("the state machine answered a different command than was proposed")
}
