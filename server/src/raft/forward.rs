//! Proposals of a follower's clients, on their way over the leader.
//!
//! Each carries who it came from and a number. The leader puts it into the log like its own; the
//! member it came from applies it too, knows it again by its number and answers its client with
//! what its own state machine said. So an answer lost on the way back loses nothing, and nothing
//! is ever proposed twice: only what certainly did not get into the log is tried again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::Fatal;
use proto::peer::refused_proposal::Reason;
use proto::peer::{ProposeRequest, ProposeResponse, RefusedProposal};
use tokio::sync::mpsc;

use super::core::{Core, Handle};
use super::links::{CallError, Lane, Links, within};
use super::types::{Proposal, Reply, To, Types};
use crate::limits;
use crate::replica::{Unavailable, Waiter};

/// Who waits here for proposals that went to the leader.
pub struct Forwarded {
    origin: u64,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiter>>,
}

impl Forwarded {
    /// `origin` is this member.
    pub fn new(origin: u64) -> Forwarded {
        // Entries of an earlier run may be applied again: no number of theirs may be reused.
        Forwarded { origin, next: AtomicU64::new(rand::random()), waiting: Mutex::default() }
    }

    fn add(&self, waiter: Waiter) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, waiter);
        number
    }

    /// Who waits for this proposal, if it came from here and somebody still does.
    pub fn take(&self, proposal: &Proposal) -> Option<Waiter> {
        let (origin, number) = proposal.origin()?;
        if origin != self.origin {
            return None;
        }
        self.lock().remove(&number)
    }

    /// Forgets those who gave up.
    pub fn sweep(&self) {
        self.lock().retain(|_, waiter| waiter.is_waiting());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiter>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends proposals to the leader of this term. What does not get into the log comes back through
/// `again`.
pub fn send(
    links: &Links,
    forwarded: &Arc<Forwarded>,
    again: &mpsc::UnboundedSender<(Proposal, Waiter)>,
    (leader, term): (u64, u64),
    proposals: impl IntoIterator<Item = (Proposal, Waiter)>,
    timeout: Duration,
) {
    let mut batch = Batch::default();
    let mut batches = Vec::new();
    for (proposal, waiter) in proposals {
        let number = forwarded.add(waiter);
        let payload = proposal.forwarded(forwarded.origin, number);
        batch.bytes += payload.len();
        batch.sent.push((number, proposal));
        batch.payloads.push(payload);
        if batch.bytes >= limits::FORWARD_BYTES_MAX {
            batches.push(std::mem::take(&mut batch));
        }
    }
    if !batch.sent.is_empty() {
        batches.push(batch);
    }
    for Batch { sent, payloads, .. } in batches {
        let mut link = links.to(leader, Lane::Request);
        let (forwarded, again) = (forwarded.clone(), again.clone());
        tokio::spawn(async move {
            let identity = Some(link.identity());
            let request = ProposeRequest { identity, term, proposals: payloads };
            let refusals = match within(timeout, link.client.propose(request)).await {
                Ok(ProposeResponse { refused }) => refused,
                Err(CallError::NotSent(_)) => {
                    (0..sent.len() as u32).map(|at| refused(at, Reason::NotLeader)).collect()
                }
                // Whether they got into the log will show, or the clients give up.
                Err(error) => {
                    tracing::debug!(%error, "sending proposals to the leader");
                    return;
                }
            };
            for refusal in refusals {
                let Some((number, proposal)) = sent.get(refusal.position as usize) else {
                    continue;
                };
                let Some(waiter) = forwarded.lock().remove(number) else { continue };
                match refusal.reason() {
                    // The raft thread is gone only when the process stops.
                    Reason::NotLeader => drop(again.send((proposal.clone(), waiter))),
                    Reason::NoSpace => waiter.failed(Unavailable::NoSpace),
                    Reason::TooManyRequests => waiter.failed(Unavailable::TooManyRequests),
                }
            }
        });
    }
}

#[derive(Default)]
struct Batch {
    bytes: usize,
    sent: Vec<(u64, Proposal)>,
    payloads: Vec<Bytes>,
}

/// Why proposals of another member were not even looked at.
pub enum NotAccepted {
    Malformed(&'static str),
    Stopped(Fatal<Types>),
}

/// Puts another member's proposals into the log. What does not get there is named to `refuse`, and
/// all of it is decided when the last clone of that is gone.
pub async fn accept(
    raft: &Core,
    handle: &Handle,
    request: ProposeRequest,
    refuse: &mpsc::UnboundedSender<RefusedProposal>,
) -> Result<(), NotAccepted> {
    let standing = handle.standing();
    let leads = standing.leader == handle.member_id && standing.term == request.term;
    for (position, payload) in (0..).zip(request.proposals) {
        // A message's buffer lives as long as any part of it.
        let proposal = Proposal::decode(Bytes::copy_from_slice(&payload));
        let proposal = proposal.map_err(|_| NotAccepted::Malformed("a proposal is no command"))?;
        // What is in the log must be understood by every member, or none of them can go on.
        if proposal.command().is_err() {
            return Err(NotAccepted::Malformed("a proposal's command is malformed"));
        }
        let reason = match handle.admission.accept(&proposal) {
            _ if !leads => Reason::NotLeader,
            Err(Unavailable::NoSpace) => Reason::NoSpace,
            Err(_) => Reason::TooManyRequests,
            Ok(()) => {
                let to = To::Peer { position, refuse: refuse.clone() };
                raft.client_write_ff(proposal, Some(Reply::new(to)))
                    .await
                    .map_err(NotAccepted::Stopped)?;
                continue;
            }
        };
        // Whoever asked is told when it is still there.
        let _ = refuse.send(refused(position, reason));
    }
    Ok(())
}

pub fn refused(position: u32, reason: Reason) -> RefusedProposal {
    RefusedProposal { position, reason: reason.into() }
}
