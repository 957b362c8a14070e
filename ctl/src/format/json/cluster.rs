//! The structs of answers about endpoints and members.

use proto::etcdserverpb as pb;
use serde::Serialize;

use super::{Header, empty, encode};
use crate::failure::{Failure, header};
use crate::go;

#[derive(Serialize)]
pub(super) struct Health<'a> {
    endpoint: &'a str,
    health: bool,
    took: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

impl<'a> Health<'a> {
    pub(super) fn of(of: &'a crate::format::Health) -> Self {
        let took = go::format_duration(of.took);
        Self { endpoint: &of.endpoint, health: of.healthy, took, error: &of.error }
    }
}

#[derive(Serialize)]
pub(super) struct EndpointStatus<'a> {
    #[serde(rename = "Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "Status")]
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    header: Header,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "empty")]
    db_size: i64,
    #[serde(skip_serializing_if = "empty")]
    leader: u64,
    #[serde(skip_serializing_if = "empty")]
    raft_index: u64,
    #[serde(skip_serializing_if = "empty")]
    raft_term: u64,
    #[serde(skip_serializing_if = "empty")]
    raft_applied_index: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    errors: &'a [String],
    #[serde(skip_serializing_if = "empty")]
    db_size_in_use: i64,
    #[serde(skip_serializing_if = "empty")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    storage_version: &'a str,
    #[serde(skip_serializing_if = "empty")]
    db_size_quota: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    downgrade_info: Option<DowngradeInfo<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DowngradeInfo<'a> {
    #[serde(skip_serializing_if = "empty")]
    enabled: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    target_version: &'a str,
}

impl<'a> EndpointStatus<'a> {
    pub(super) fn of(of: &'a crate::format::EndpointStatus) -> Self {
        let from = &of.status;
        let status = Status {
            header: Header::of(&of.header),
            version: &from.version,
            db_size: from.db_size,
            leader: from.leader,
            raft_index: from.raft_index,
            raft_term: from.raft_term,
            raft_applied_index: from.raft_applied_index,
            errors: &from.errors,
            db_size_in_use: from.db_size_in_use,
            is_learner: from.is_learner,
            storage_version: &from.storage_version,
            db_size_quota: from.db_size_quota,
            downgrade_info: from.downgrade_info.as_ref().map(|info| DowngradeInfo {
                enabled: info.enabled,
                target_version: &info.target_version,
            }),
        };
        Self { endpoint: &of.endpoint, status }
    }
}

#[derive(Serialize)]
pub(super) struct EndpointHash<'a> {
    #[serde(rename = "Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "HashKV")]
    hash: Hash,
}

#[derive(Serialize)]
struct Hash {
    header: Header,
    #[serde(skip_serializing_if = "empty")]
    hash: u32,
    #[serde(skip_serializing_if = "empty")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "empty")]
    hash_revision: i64,
}

impl<'a> EndpointHash<'a> {
    pub(super) fn of(of: &'a crate::format::EndpointHash) -> Self {
        let hash = Hash {
            header: Header::of(&of.header),
            hash: of.hash.hash,
            compact_revision: of.hash.compact_revision,
            hash_revision: of.hash.hash_revision,
        };
        Self { endpoint: &of.endpoint, hash }
    }
}

#[derive(Serialize)]
struct Member<'a> {
    #[serde(rename = "ID", skip_serializing_if = "empty")]
    id: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "peerURLs", skip_serializing_if = "<[String]>::is_empty")]
    peer_urls: &'a [String],
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "empty")]
    is_learner: bool,
}

impl<'a> Member<'a> {
    fn of(from: &'a pb::Member) -> Self {
        Self {
            id: from.id,
            name: &from.name,
            peer_urls: &from.peer_ur_ls,
            client_urls: &from.client_ur_ls,
            is_learner: from.is_learner,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Members<'a> {
    header: Header,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<Member<'a>>,
}

impl<'a> Members<'a> {
    pub(super) fn of(from: &'a pb::MemberListResponse) -> Result<Self, Failure> {
        let members = from.members.iter().map(Member::of).collect();
        Ok(Self { header: Header::required(from.header.as_ref())?, members })
    }
}

#[derive(Serialize)]
pub(super) struct MemberAdded<'a> {
    header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<Member<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<Member<'a>>,
}

impl<'a> MemberAdded<'a> {
    pub(super) fn of(from: &'a pb::MemberAddResponse) -> Result<Self, Failure> {
        Ok(Self {
            header: Header::required(from.header.as_ref())?,
            member: from.member.as_ref().map(Member::of),
            members: from.members.iter().map(Member::of).collect(),
        })
    }
}

/// etcd's answer has no header, of all answers.
#[derive(Serialize)]
pub(super) struct LeaderMoved {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
}

impl LeaderMoved {
    pub(super) fn of(from: &pb::MoveLeaderResponse) -> Self {
        Self { header: from.header.as_ref().map(Header::of) }
    }
}

/// The list with ids as strings in hex, which etcdctl writes by hand: without the revision and
/// without saying who is a learner.
pub(super) fn members_in_hex(from: &pb::MemberListResponse) -> Result<Vec<u8>, Failure> {
    let of = header(from.header.as_ref())?;
    encode(&MembersInHex {
        header: HeaderInHex {
            cluster_id: format!("{:x}", of.cluster_id),
            member_id: format!("{:x}", of.member_id),
            raft_term: of.raft_term,
        },
        members: from.members.iter().map(MemberInHex::of).collect(),
    })
}

#[derive(Serialize)]
struct MembersInHex<'a> {
    header: HeaderInHex,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<MemberInHex<'a>>,
}

#[derive(Serialize)]
struct HeaderInHex {
    cluster_id: String,
    member_id: String,
    raft_term: u64,
}

#[derive(Serialize)]
struct MemberInHex<'a> {
    #[serde(rename = "ID")]
    id: String,
    name: &'a str,
    #[serde(rename = "peerURLs")]
    peer_urls: Option<&'a [String]>,
    #[serde(rename = "clientURLs")]
    client_urls: Option<&'a [String]>,
}

impl<'a> MemberInHex<'a> {
    fn of(from: &'a pb::Member) -> Self {
        // Go's null: a list that nothing was appended to.
        let list = |urls: &'a Vec<String>| (!urls.is_empty()).then_some(urls.as_slice());
        Self {
            id: format!("{:x}", from.id),
            name: &from.name,
            peer_urls: list(&from.peer_ur_ls),
            client_urls: list(&from.client_ur_ls),
        }
    }
}
