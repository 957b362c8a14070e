//! Names, keys and values of etcd's buckets.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto::internal::Membership;
use serde::{Deserialize, Serialize};

use crate::mvcc::Member;
use crate::{LogId, Revision};

pub(super) const KEY: &str = "key";
pub(super) const LEASE: &str = "lease";
pub(super) const META: &str = "meta";
/// Buckets that etcd expects to find, even if there is nothing in them.
pub(super) const EXPECTED: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    KEY,
    LEASE,
    "members",
    "members_removed",
    META,
];

/// Keys of the bucket `meta`, which is kept apart because it says what the rest is worth.
pub(super) mod meta {
    pub(crate) const APPLIED_INDEX: &[u8] = b"consistent_index";
    pub(crate) const APPLIED_TERM: &[u8] = b"term";
    pub(crate) const CONF_STATE: &[u8] = b"confState";
    pub(crate) const COMPACTION_FINISHED: &[u8] = b"finishedCompactRev";
    /// Ours, etcd skips it: raft's membership with the position of its entry.
    pub(crate) const MEMBERSHIP: &[u8] = b"kvd_membership";
    pub(crate) const COMPACTION_SCHEDULED: &[u8] = b"scheduledCompactRev";
    pub(crate) const STORAGE_VERSION: &[u8] = b"storageVersion";
}

/// The newest etcd that knows all that we write, and only that.
pub(super) const STORAGE_VERSION: &str = "3.6.0";

/// The key of a change: `main _ sub`, and a `t` behind it for a tombstone.
pub(super) fn encode_revision(revision: Revision, tombstone: bool) -> ([u8; 18], usize) {
    let mut bytes = [0; 18];
    bytes[..8].copy_from_slice(&revision.main.to_be_bytes());
    bytes[8] = b'_';
    bytes[9..17].copy_from_slice(&revision.sub.to_be_bytes());
    bytes[17] = b't';
    (bytes, if tombstone { 18 } else { 17 })
}

/// `None` if the bytes are no revision.
pub(super) fn decode_revision(bytes: &[u8]) -> Option<(Revision, bool)> {
    let (main, rest) = bytes.split_first_chunk()?;
    let (b"_", rest) = rest.split_first_chunk()? else { return None };
    let (sub, rest) = rest.split_first_chunk()?;
    let tombstone = match rest {
        b"" => false,
        b"t" => true,
        _ => return None,
    };
    let revision = Revision::new(i64::from_be_bytes(*main), i64::from_be_bytes(*sub));
    (revision.main >= 0 && revision.sub >= 0).then_some((revision, tombstone))
}

/// Who votes, as etcd writes it.
#[derive(Serialize)]
struct ConfState {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters_outgoing: Vec<u64>,
    auto_leave: bool,
}

pub(super) fn conf_state(membership: &Membership) -> Vec<u8> {
    // While a change is under way there are two sets, the outgoing one first.
    let voters = membership.configs.last().map(|set| set.ids.clone()).unwrap_or_default();
    let voters_outgoing = match &membership.configs[..] {
        [outgoing, _, ..] => outgoing.ids.clone(),
        _ => Vec::new(),
    };
    let votes = |id: &u64| membership.configs.iter().any(|set| set.ids.contains(id));
    let learners = membership.nodes.iter().map(|node| node.id).filter(|id| !votes(id)).collect();
    let state = ConfState { voters, learners, voters_outgoing, auto_leave: false };
    serde_json::to_vec(&state).expect("numbers and a flag always encode")
}

/// `term u64 | index u64 | encoded Membership`, big endian.
pub(super) fn encode_membership(id: LogId, membership: &Membership) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&id.term.to_be_bytes());
    bytes.extend_from_slice(&id.index.to_be_bytes());
    bytes.extend_from_slice(&membership.encode_to_vec());
    bytes
}

/// `None` if the bytes are no membership.
pub(super) fn decode_membership(bytes: &[u8]) -> Option<(LogId, Membership)> {
    let (term, rest) = bytes.split_first_chunk()?;
    let (index, rest) = rest.split_first_chunk()?;
    let id = LogId { term: u64::from_be_bytes(*term), index: u64::from_be_bytes(*index) };
    Some((id, Membership::decode(rest).ok()?))
}

/// A member as etcd writes it, and what etcd skips.
#[derive(Deserialize, Serialize)]
struct MemberJson {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
    #[serde(rename = "kvdLog", default, skip_serializing_if = "is_zero")]
    log: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The bucket `members`: hexadecimal id, then JSON.
pub(super) fn encode_members(members: &[Member]) -> BTreeMap<Bytes, Bytes> {
    let row = |member: &Member| {
        let json = MemberJson {
            id: member.id,
            peer_urls: Some(member.peer_urls.clone()),
            is_learner: member.is_learner,
            name: member.name.clone(),
            client_urls: member.client_urls.clone(),
            log: member.log,
        };
        let json = serde_json::to_vec(&json).expect("numbers and text always encode");
        (Bytes::from(format!("{:x}", member.id)), Bytes::from(json))
    };
    members.iter().map(row).collect()
}

/// `None` if a value is not a member.
pub(super) fn decode_members(table: &BTreeMap<Bytes, Bytes>) -> Option<Vec<Member>> {
    let member = |json: &Bytes| {
        let json: MemberJson = serde_json::from_slice(json).ok()?;
        let MemberJson { id, peer_urls, is_learner, name, client_urls, log } = json;
        let peer_urls = peer_urls.unwrap_or_default();
        Some(Member { id, name, peer_urls, client_urls, is_learner, log })
    };
    table.values().map(member).collect()
}
