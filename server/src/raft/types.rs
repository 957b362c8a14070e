//! The types openraft is instantiated with, and their conversion to ours.
//!
//! openraft counts log positions from 0 and leaves "nothing yet" to an `Option`; everything
//! outside this folder counts from 1, as etcd does, and 0 is nothing yet.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::alias::{LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::errors::{ClientWriteError, MembershipError};
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use openraft::{RaftTypeConfig, vote::leader_id_std};
use prost::Message;
use proto::internal;
use proto::peer::RefusedProposal;
use proto::peer::refused_proposal::Reason;
use store::LogId;
use store::mvcc::Response;
use tokio::sync::{mpsc, oneshot};

use super::machine::Written;
use crate::replica::{Unavailable, Waiter};

/// openraft's parameters: etcd's ids and terms, our proposals and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl RaftTypeConfig for Types {
    type D = Proposal;
    type R = Outcome;
    type NodeId = u64;
    type Node = Node;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::vote::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Proposal, u64, Node>;
    type Entry = openraft::Entry<leader_id_std::CommittedLeaderId<u64>, Self::Payload>;
    type AsyncRuntime = openraft::TokioRuntime;
    type Responder<T>
        = Reply<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub type Entry = <Types as RaftTypeConfig>::Entry;
pub type Payload = <Types as RaftTypeConfig>::Payload;
pub type Membership = openraft::Membership<u64, Node>;

/// A member as it entered the cluster. Its name and URLs may have changed since: the store's table
/// of members knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub peer_urls: Vec<String>,
    /// It was added to vote, and only listens until it has caught up.
    pub to_vote: bool,
}

/// What the state machine answered.
#[derive(Clone, Debug)]
pub struct Outcome(pub Result<Response, store::Refusal>);

impl Outcome {
    /// Bytes of the rows in it.
    pub fn held_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, Response::held_bytes)
    }
}

/// A command on its way into the log: the entry's payload as it will be stored.
#[derive(Clone)]
pub struct Proposal(Bytes);

// The first byte of a stored payload says what the rest is.
const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;
/// A command that came over another member: that member's id and its number for it come first.
const FORWARDED: u8 = 3;

/// What precedes the command in a payload.
const COMMAND_HEAD: usize = 1;
const FORWARDED_HEAD: usize = 1 + 8 + 8;

impl Proposal {
    pub fn new(command: &internal::Command) -> Self {
        let mut bytes = Vec::with_capacity(1 + command.encoded_len());
        bytes.push(COMMAND);
        command.encode(&mut bytes).expect("a vector grows as needed");
        Self(Bytes::from(bytes))
    }

    /// Takes a payload of the log.
    pub fn decode(payload: Bytes) -> Result<Self, String> {
        let head = match payload.first() {
            Some(&COMMAND) => COMMAND_HEAD,
            Some(&FORWARDED) => FORWARDED_HEAD,
            tag => return Err(format!("unknown entry kind {tag:?}")),
        };
        match payload.len() < head {
            true => Err("a forwarded command is cut off".into()),
            false => Ok(Self(payload)),
        }
    }

    /// The payload of the same command when it goes over another member.
    pub fn forwarded(&self, origin: u64, number: u64) -> Bytes {
        let command = self.command_bytes();
        let mut bytes = BytesMut::with_capacity(FORWARDED_HEAD + command.len());
        bytes.put_u8(FORWARDED);
        bytes.put_u64(origin);
        bytes.put_u64(number);
        bytes.put_slice(command);
        bytes.freeze()
    }

    /// The member that it came over, and its number there.
    pub fn origin(&self) -> Option<(u64, u64)> {
        let ids = self.0.strip_prefix(&[FORWARDED])?;
        let (origin, rest) = ids.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        Some((u64::from_be_bytes(*origin), u64::from_be_bytes(*number)))
    }

    fn command_bytes(&self) -> &[u8] {
        match self.0.first() {
            Some(&FORWARDED) => &self.0[FORWARDED_HEAD..],
            _ => &self.0[COMMAND_HEAD..],
        }
    }

    /// Bytes of the command alone.
    pub fn command_len(&self) -> usize {
        self.command_bytes().len()
    }

    pub fn command(&self) -> Result<internal::Command, prost::DecodeError> {
        internal::Command::decode(self.command_bytes())
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The bytes the log keeps for an entry.
pub fn encode_payload(payload: &Payload) -> Bytes {
    match payload {
        openraft::EntryPayload::Blank => Bytes::from_static(&[BLANK]),
        openraft::EntryPayload::Normal(proposal) => proposal.0.clone(),
        openraft::EntryPayload::Membership(membership) => {
            let message = membership_message(membership);
            let mut bytes = BytesMut::with_capacity(1 + message.encoded_len());
            bytes.put_u8(MEMBERSHIP);
            message.encode(&mut bytes).expect("a buffer grows as needed");
            bytes.freeze()
        }
    }
}

/// # Errors
/// When the bytes are none of ours: the log passed its checks but another program wrote it.
pub fn decode_payload(bytes: Bytes) -> Result<Payload, String> {
    match bytes.first() {
        Some(&BLANK) => Ok(openraft::EntryPayload::Blank),
        Some(&MEMBERSHIP) => {
            let wrong = |what: &dyn fmt::Display| format!("membership entry: {what}");
            let message = internal::Membership::decode(&bytes[1..]).map_err(|e| wrong(&e))?;
            let membership = membership(&message).map_err(|e| wrong(&e))?;
            Ok(openraft::EntryPayload::Membership(membership))
        }
        _ => Proposal::decode(bytes).map(openraft::EntryPayload::Normal),
    }
}

pub fn membership_message(membership: &Membership) -> internal::Membership {
    internal::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|ids| internal::VoterSet { ids: ids.iter().copied().collect() })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, node)| internal::MemberNode {
                id: *id,
                peer_urls: node.peer_urls.clone(),
                name: node.name.clone(),
                to_vote: node.to_vote,
            })
            .collect(),
    }
}

/// Whether [`stored_membership`] can take it.
pub fn check_membership(message: &internal::Membership) -> Result<(), String> {
    membership(message).map(|_| ()).map_err(|error| error.to_string())
}

/// # Errors
/// When a set of voters is empty, or a voter has no node.
fn membership(message: &internal::Membership) -> Result<Membership, MembershipError<u64>> {
    let configs = message.configs.iter().map(|set| set.ids.iter().copied().collect()).collect();
    let nodes: std::collections::BTreeMap<u64, Node> = message
        .nodes
        .iter()
        .map(|node| {
            let internal::MemberNode { id, peer_urls, name, to_vote } = node.clone();
            (id, Node { name, peer_urls, to_vote })
        })
        .collect();
    Membership::new(configs, nodes)
}

pub fn stored_membership(
    stored: Option<(LogId, internal::Membership)>,
) -> StoredMembershipOf<Types> {
    match stored {
        Some((id, message)) => {
            let membership = membership(&message).expect("it was checked when it came");
            openraft::StoredMembership::new(raft_id(id), membership)
        }
        None => openraft::StoredMembership::default(),
    }
}

/// Our position of an openraft log id.
pub fn log_id(id: &LogIdOf<Types>) -> LogId {
    LogId { term: *id.leader_id, index: id.index + 1 }
}

/// openraft's log id of our position.
pub fn raft_id(id: LogId) -> Option<LogIdOf<Types>> {
    let index = id.index.checked_sub(1)?;
    Some(openraft::LogId::new(leader_id_std::CommittedLeaderId::new(id.term), index))
}

pub fn encode_vote(vote: &VoteOf<Types>) -> Bytes {
    let leader = vote.leader_id();
    let message = internal::Vote {
        term: leader.term,
        member_id: leader.voted_for,
        committed: vote.is_committed(),
    };
    Bytes::from(message.encode_to_vec())
}

pub fn decode_vote(bytes: &[u8]) -> Result<VoteOf<Types>, prost::DecodeError> {
    let message = internal::Vote::decode(bytes)?;
    Ok(match message.committed {
        true => openraft::vote::Vote::new_committed(message.term, message.member_id),
        false => openraft::vote::Vote::new(message.term, message.member_id),
    })
}

pub fn snapshot_meta(written: &Written) -> SnapshotMetaOf<Types> {
    openraft::SnapshotMeta {
        last_log_id: raft_id(written.applied),
        last_membership: stored_membership(written.membership.clone()),
    }
}

/// Who hears what became of a proposal.
pub enum To {
    /// A client of this member; a proposal that did not get into the log comes back.
    Client { waiter: Waiter, proposal: Proposal, again: mpsc::UnboundedSender<(Proposal, Waiter)> },
    /// Another member, of what was refused; the rest it sees when it applies it.
    Peer { position: u32, refuse: mpsc::UnboundedSender<RefusedProposal> },
    /// This member as the leader, of whether it was applied. What was refused stays so.
    Lessor(oneshot::Sender<bool>),
}

/// openraft is generic over what a responder receives; the function pointer ties ours to the one
/// kind of result it can be given, without an allocation a proposal.
pub struct Reply<T> {
    to: To,
    deliver: fn(To, T),
}

impl Reply<ClientWriteResult<Types>> {
    pub fn new(to: To) -> Self {
        Self { to, deliver }
    }
}

impl<T: Send + 'static> Responder<Types, T> for Reply<T> {
    fn on_complete(self, result: T) {
        (self.deliver)(self.to, result);
    }
}

fn deliver(to: To, result: ClientWriteResult<Types>) {
    let refused = matches!(result, Err(ClientWriteError::ForwardToLeader(_)));
    match to {
        // Whoever asked is gone only when the process stops or the connection broke.
        To::Peer { position, refuse } if refused => {
            let _ = refuse.send(super::forward::refused(position, Reason::NotLeader));
        }
        To::Client { waiter, proposal, again } if refused => drop(again.send((proposal, waiter))),
        To::Lessor(done) => drop(done.send(result.is_ok())),
        To::Peer { .. } => {}
        To::Client { waiter, .. } => match result {
            Ok(response) => waiter.applied(response.data),
            Err(ClientWriteError::LogEntryDiscarded(_)) => waiter.failed(Unavailable::LeaderFailed),
            Err(_) => waiter.failed(Unavailable::Stopped),
        },
    }
}
