//! Changes of who belongs to the cluster and of who leads it.
//!
//! A change is one log entry with the whole new membership, which adds or removes one voter at
//! most. The leader decides whether it may be made; other members send it there.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::Instant as _;
use openraft::alias::StoredMembershipOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::entry::RaftPayload;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::metrics::RaftMetrics;
use openraft::raft::Precondition;
use proto::internal::MemberNode;
use proto::peer::{ChangeMembersRequest, NewMember, change_members_request};

use super::core::{Core, Handle};
use super::links::{CallError, Lane, Links, within};
use super::rules::Facts;
use super::types::{Membership, Node, Payload, Types};
use super::{types, wire};
use crate::limits;
use crate::metrics::METRICS;
use crate::replica::{AdminError, Unavailable};

/// Another membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Add {
        id: u64,
        node: Node,
        learner: bool,
    },
    Remove {
        id: u64,
    },
    /// A learner becomes a voter.
    Promote {
        id: u64,
    },
}

/// Why a membership stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    IdExists,
    PeerUrlExists,
    NotFound,
    NotLearner,
    /// The learner lacks too much of the log.
    LearnerNotReady,
    TooManyLearners,
    /// Too few voters have started for the quorum that would be needed.
    NotEnoughStarted,
    /// Too few voters answer for the quorum that would be needed.
    Unhealthy,
}

/// In the order of their codes between members, from 1.
const ERRORS: [ChangeError; 8] = [
    ChangeError::IdExists,
    ChangeError::PeerUrlExists,
    ChangeError::NotFound,
    ChangeError::NotLearner,
    ChangeError::LearnerNotReady,
    ChangeError::TooManyLearners,
    ChangeError::NotEnoughStarted,
    ChangeError::Unhealthy,
];

/// The code of an answer that says the receiver does not lead, or lost its leadership meanwhile.
const NOT_LEADING: u32 = 100;

/// A voter that was added to a single one gets its vote when it lacks no more entries than this.
const VOTE_LAG_MAX: u64 = 1000;

pub fn code(error: AdminError) -> u32 {
    match error {
        AdminError::Refused(why) => {
            let position = ERRORS.iter().position(|error| *error == why);
            position.map_or(NOT_LEADING, |position| position as u32 + 1)
        }
        _ => NOT_LEADING,
    }
}

fn from_code(code: u32) -> Result<(), AdminError> {
    match code.checked_sub(1) {
        None => Ok(()),
        Some(position) => Err(ERRORS
            .get(position as usize)
            .map_or(AdminError::NotLeader, |error| AdminError::Refused(*error))),
    }
}

pub fn from_message(message: ChangeMembersRequest) -> Result<Change, wire::Malformed> {
    use change_members_request::Change as Message;
    Ok(match message.change.ok_or("it names no change")? {
        Message::Add(NewMember { node, learner }) => {
            let MemberNode { id, peer_urls, name, .. } = node.ok_or("it names no member")?;
            Change::Add { id, node: Node { name, peer_urls, to_vote: false }, learner }
        }
        Message::Remove(id) => Change::Remove { id },
        Message::Promote(id) => Change::Promote { id },
    })
}

fn message(change: &Change) -> change_members_request::Change {
    use change_members_request::Change as Message;
    match change {
        Change::Add { id, node, learner } => {
            let Node { name, peer_urls, to_vote } = node.clone();
            let node = Some(MemberNode { id: *id, peer_urls, name, to_vote });
            Message::Add(NewMember { node, learner: *learner })
        }
        Change::Remove { id } => Message::Remove(*id),
        Change::Promote { id } => Message::Promote(*id),
    }
}

/// Makes the change here or asks the leader to. What did not reach a leader is tried again for as
/// long as the caller polls this.
pub async fn change(
    raft: &Core,
    handle: &Handle,
    links: &Links,
    change: Change,
) -> Result<(), AdminError> {
    let mut standing = handle.standing.clone();
    // An earlier attempt may have been carried out, its answer lost.
    let mut unsure = false;
    loop {
        let led = standing.wait_for(|standing| standing.leader != 0).await;
        let leader = led.map_err(|_| AdminError::Unavailable(Unavailable::Stopped))?.leader;
        let done = if leader == handle.member_id {
            lead(raft, handle, change.clone()).await
        } else {
            let mut link = links.to(leader, Lane::Request);
            let request = ChangeMembersRequest {
                identity: Some(link.identity()),
                change: Some(message(&change)),
            };
            match within(limits::REQUEST_TIMEOUT_BASE, link.client.change_members(request)).await {
                Ok(answer) => from_code(answer.refusal),
                Err(error) => {
                    unsure |= !matches!(error, CallError::NotSent(_));
                    Err(AdminError::NotLeader)
                }
            }
        };
        match done {
            Err(AdminError::Refused(why)) if unsure && change.is_done_when_refused(why) => {
                return Ok(());
            }
            Err(AdminError::NotLeader) => tokio::time::sleep(handle.election_timeout / 10).await,
            done => return done,
        }
    }
}

/// Makes the change, as the leader. It is done when this member has applied it.
pub async fn lead(raft: &Core, handle: &Handle, change: Change) -> Result<(), AdminError> {
    let _one = handle.changing.lock().await;
    let metrics = raft.metrics().borrow_watched().clone();
    let stored = &metrics.membership_config;
    if is_done(stored, &change) {
        return Ok(());
    }
    // What is permitted depends on the table of members, so that must be of this membership.
    let applied = types::stored_membership(handle.current.load().membership());
    if applied.log_id() != stored.log_id() {
        return Err(AdminError::NotLeader);
    }
    permit(&metrics, handle, &change).map_err(AdminError::Refused)?;
    append(raft, stored, &change).await?;
    METRICS.raft.promotions.add(u64::from(matches!(change, Change::Promote { .. })));
    Ok(())
}

async fn append(
    raft: &Core,
    stored: &StoredMembershipOf<Types>,
    change: &Change,
) -> Result<(), AdminError> {
    let membership = next(stored, change)?;
    let payload: Payload = RaftPayload::blank();
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: *stored.log_id() };
    match raft.append_membership(membership, payload, [unchanged]).await {
        Ok(_) => Ok(()),
        Err(RaftError::Fatal(_)) => Err(AdminError::Unavailable(Unavailable::Stopped)),
        Err(RaftError::APIError(error)) => {
            tracing::debug!(%error, ?change, "changing the membership");
            match error {
                ClientWriteError::LogEntryDiscarded(_) => {
                    Err(AdminError::Unavailable(Unavailable::LeaderFailed))
                }
                _ => Err(AdminError::NotLeader),
            }
        }
    }
}

impl Change {
    /// Whether such a refusal of a second attempt says that the first was carried out.
    fn is_done_when_refused(&self, why: ChangeError) -> bool {
        match self {
            Change::Add { .. } => why == ChangeError::IdExists,
            Change::Remove { .. } => why == ChangeError::NotFound,
            Change::Promote { .. } => why == ChangeError::NotLearner,
        }
    }
}

/// An addition that was made before, under an id that no other has.
fn is_done(stored: &StoredMembershipOf<Types>, change: &Change) -> bool {
    match change {
        Change::Add { id, node, .. } => {
            stored.get_node(id).is_some_and(|known| known.peer_urls == node.peer_urls)
        }
        Change::Remove { .. } | Change::Promote { .. } => false,
    }
}

fn permit(
    metrics: &RaftMetrics<Types>,
    handle: &Handle,
    change: &Change,
) -> Result<(), ChangeError> {
    let store = handle.current.load();
    let last = metrics.last_log_index.map_or(0, |index| index + 1);
    let facts = Facts {
        strict: handle.strict_reconfig_check,
        max_learners: handle.max_learners,
        leader: metrics.id,
        members: &store.members(),
        is_removed: &|id| store.is_removed(id),
        is_active: &|id| answers(metrics, handle, id),
        percent: &|id| matching(metrics, id).unwrap_or(0) * 100 / last.max(1),
    };
    facts.permit(change)
}

/// Up to which entry a member has the leader's log.
fn matching(metrics: &RaftMetrics<Types>, id: u64) -> Option<u64> {
    if id == metrics.id {
        return metrics.last_log_index.map(|index| index + 1);
    }
    let matching = metrics.replication.as_ref()?.get(&id).copied().flatten();
    matching.map(|id| id.index + 1)
}

/// Who was added to vote, and has caught up.
pub fn due_to_vote(raft: &Core, handle: &Handle) -> Option<u64> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let last = metrics.last_log_index.map_or(0, |index| index + 1);
    let caught_up = |id| {
        matching(&metrics, id).is_some_and(|matching| last.saturating_sub(matching) <= VOTE_LAG_MAX)
    };
    let mut waiting = metrics
        .membership_config
        .nodes()
        .filter(|(id, node)| node.to_vote && !voters.contains(id))
        .map(|(id, _)| *id);
    waiting.find(|id| caught_up(*id) && answers(&metrics, handle, *id))
}

/// Lets it vote; if another change is under way, the next look tries again.
pub async fn let_vote(raft: &Core, handle: &Handle, id: u64) {
    let Ok(_one) = handle.changing.try_lock() else { return };
    let stored = raft.metrics().borrow_watched().membership_config.clone();
    let is_waiting = stored.get_node(&id).is_some() && !stored.voter_ids().any(|it| it == id);
    if is_waiting && append(raft, &stored, &Change::Promote { id }).await.is_ok() {
        tracing::info!("member {id:x} has caught up and votes from now on");
    }
}

/// Whether the leader heard from this member lately.
fn answers(metrics: &RaftMetrics<Types>, handle: &Handle, id: u64) -> bool {
    let acked = metrics.heartbeat.as_ref().and_then(|of| of.get(&id).copied().flatten());
    id == metrics.id || acked.is_some_and(|at| at.elapsed() < handle.election_timeout)
}

/// The membership after the change.
///
/// A voter counts from the entry on that adds it, so a single voter could not decide to add another
/// that does not run yet, and that can only run once it was added. It is given its vote when it
/// has caught up.
fn next(stored: &StoredMembershipOf<Types>, change: &Change) -> Result<Membership, AdminError> {
    let mut voters: BTreeSet<u64> = stored.voter_ids().collect();
    let mut nodes: std::collections::BTreeMap<u64, Node> =
        stored.nodes().map(|(id, node)| (*id, node.clone())).collect();
    match change {
        Change::Add { id, node, learner } => {
            let to_vote = !learner && voters.len() == 1;
            nodes.insert(*id, Node { to_vote, ..node.clone() });
            if !learner && !to_vote {
                voters.insert(*id);
            }
        }
        Change::Promote { id } => {
            voters.insert(*id);
        }
        Change::Remove { id } => {
            nodes.remove(id);
            voters.remove(id);
        }
    }
    if voters.is_empty() {
        return Err(AdminError::Refused(ChangeError::NotEnoughStarted));
    }
    Ok(Membership::new(vec![voters], nodes).expect("every voter has a node"))
}

/// Hands leadership to `to`, and returns when it is there.
pub async fn move_leader(raft: &Core, handle: &Handle, to: u64) -> Result<(), AdminError> {
    if handle.standing().leader != handle.member_id {
        return Err(AdminError::NotLeader);
    }
    if !raft.voter_ids().any(|id| id == to) {
        return Err(AdminError::BadTransferee);
    }
    if to == handle.member_id {
        return Ok(());
    }
    transfer(raft, handle, to, |leader| leader == to).await
}

/// Hands leadership to the voter that has most of the log, if this member leads and there is one.
pub async fn hand_over(raft: &Core, handle: &Handle) -> Result<(), AdminError> {
    if handle.standing().leader != handle.member_id {
        return Ok(());
    }
    let metrics = raft.metrics().borrow_watched().clone();
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let best = metrics
        .replication
        .iter()
        .flatten()
        .filter(|(id, _)| voters.contains(id) && answers(&metrics, handle, **id))
        .filter(|(id, _)| **id != handle.member_id)
        .max_by_key(|(_, matching)| **matching);
    match best {
        // Whoever leads then will do.
        Some((id, _)) => {
            transfer(raft, handle, *id, |leader| ![0, handle.member_id].contains(&leader)).await
        }
        None => Ok(()),
    }
}

async fn transfer(
    raft: &Core,
    handle: &Handle,
    to: u64,
    is_done: impl Fn(u64) -> bool,
) -> Result<(), AdminError> {
    let stopped = |_| AdminError::Unavailable(Unavailable::Stopped);
    raft.trigger().transfer_leader(to).await.map_err(stopped)?;
    let mut standing = handle.standing.clone();
    let led = standing.wait_for(|standing| is_done(standing.leader));
    let timeout: Duration = 2 * handle.election_timeout;
    match tokio::time::timeout(timeout, led).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(AdminError::Unavailable(Unavailable::Stopped)),
        Err(_) => Err(AdminError::TransferTimeout),
    }
}
