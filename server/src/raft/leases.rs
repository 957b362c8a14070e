//! The leader's word on leases: it ends them when their time is over, and renews them after a round
//! has confirmed that it leads. Other members ask it over the peers' service.
//!
//! One batch of questions is under way at a time; what comes meanwhile shares the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use proto::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest};
use proto::internal::{Command, command::Op};
use proto::peer::{LeaseAnswer, LeaseQuestion, LeasesRequest, LeasesResponse};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::core::{Core, Handle};
use super::links::{Lane, Links, within};
use super::types::{Proposal, Reply, To};
use crate::lease::{Ask, Call, Lessor, Renewal, Told};
use crate::limits;
use crate::metrics::METRICS;
use crate::replica::Unavailable;

/// What the parts of this file share.
#[derive(Clone)]
struct Office {
    raft: Core,
    handle: Handle,
    links: Links,
    lessor: Arc<Lessor>,
}

/// The task that keeps the time of leases on the raft thread.
struct Keeper {
    office: Office,
    calls: mpsc::UnboundedSender<Call>,
    waiting: Vec<Call>,
    /// Told when the batch under way has ended.
    ended: mpsc::UnboundedSender<()>,
    running: bool,
    /// Leases that ended, in the term this was found out in.
    ends: VecDeque<(u64, i64)>,
    revoking: JoinSet<()>,
    noted: Instant,
}

/// Starts that task. What is asked of it comes through the channel, whose sending end is returned.
pub fn start(
    (raft, handle, links): (&Core, &Handle, &Links),
    lessor: Arc<Lessor>,
    (calls, asked): (mpsc::UnboundedSender<Call>, mpsc::UnboundedReceiver<Call>),
) -> mpsc::UnboundedSender<Call> {
    let (ended, batches) = mpsc::unbounded_channel();
    let (raft, handle, links) = (raft.clone(), handle.clone(), links.clone());
    let keeper = Keeper {
        office: Office { raft, handle, links, lessor },
        calls: calls.clone(),
        waiting: Vec::new(),
        ended,
        running: false,
        ends: VecDeque::new(),
        revoking: JoinSet::new(),
        noted: Instant::now(),
    };
    tokio::spawn(keeper.run(asked, batches));
    calls
}

impl Keeper {
    async fn run(
        mut self,
        mut asked: mpsc::UnboundedReceiver<Call>,
        mut batches: mpsc::UnboundedReceiver<()>,
    ) {
        let mut standing = self.office.handle.standing.clone();
        let mut looks = tokio::time::interval(limits::LEASE_LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow();
        loop {
            tokio::select! {
                biased;
                changed = standing.changed() => match changed {
                    Ok(()) => self.follow(),
                    // Consensus has ended, and the process does.
                    Err(_) => return,
                },
                Some(()) = batches.recv() => self.running = false,
                Some(_) = self.revoking.join_next() => {}
                _ = looks.tick() => self.look(),
                Some(call) = asked.recv() => {
                    self.waiting.push(call);
                    while let Ok(call) = asked.try_recv() {
                        self.waiting.push(call);
                    }
                }
            }
            self.revoke();
            self.begin();
        }
    }

    /// Begins to lead, or ceases to.
    fn follow(&mut self) {
        let Office { handle, lessor, .. } = &self.office;
        let standing = handle.standing();
        match standing.leader == handle.member_id {
            true => lessor.lead(standing.term, handle.election_timeout),
            false => {
                self.ends.clear();
                lessor.stop_leading();
            }
        }
    }

    /// Looks which leases have ended. What was found the last time goes first.
    fn look(&mut self) {
        self.waiting.retain(|call| !call.answer.is_closed());
        if self.ends.is_empty()
            && let Some((term, due)) = self.office.lessor.due(limits::LEASES_ENDED_MAX)
        {
            self.ends.extend(due.into_iter().map(|id| (term, id)));
        }
        if self.noted.elapsed() >= limits::LEASE_NOTE_LOOK_INTERVAL {
            self.noted = Instant::now();
            if let Some((term, checkpoints)) = self.office.lessor.notes(limits::LEASE_NOTES_MAX) {
                let office = self.office.clone();
                tokio::spawn(async move {
                    let ids: Vec<i64> = checkpoints.iter().map(|note| note.id).collect();
                    let op = Op::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints });
                    // The next notes make up for those that are lost.
                    let _ = office.propose(op, term).await;
                    office.lessor.settle_notes(term, ids);
                });
            }
        }
    }

    /// A few at a time, so that clients' writes pass between them.
    fn revoke(&mut self) {
        while self.revoking.len() < limits::LEASE_REVOKES_MAX
            && let Some((term, id)) = self.ends.pop_front()
        {
            let office = self.office.clone();
            self.revoking.spawn(async move {
                METRICS.leases.expired.add(1);
                let op = Op::LeaseRevoke(LeaseRevokeRequest { id });
                if !office.propose(op, term).await {
                    tracing::debug!(id = format!("{id:x}"), "ending a lease: trying again");
                }
            });
        }
    }

    /// Has the leader answer what waits.
    fn begin(&mut self) {
        let leader = self.office.handle.standing().leader;
        let leads = leader == self.office.handle.member_id;
        if !leads {
            // Their members know better who leads, or will.
            refuse(self.waiting.extract_if(.., |call| call.from_peer));
        }
        if self.running || self.waiting.is_empty() || leader == 0 {
            return;
        }
        self.running = true;
        let batch = std::mem::take(&mut self.waiting);
        let (office, calls, ended) = (self.office.clone(), self.calls.clone(), self.ended.clone());
        tokio::spawn(async move {
            let left = match leads {
                true => office.answer(batch).await,
                false => office.ask(leader, batch).await,
            };
            // The keeper is gone only when the process stops.
            let _ = ended.send(());
            if !left.is_empty() {
                tokio::time::sleep(limits::LEASE_ASK_AGAIN).await;
                left.into_iter().for_each(|call| drop(calls.send(call)));
            }
        });
    }
}

/// Tells other members that this one cannot say.
fn refuse(calls: impl IntoIterator<Item = Call>) {
    for call in calls {
        // Whoever asked may have stopped waiting.
        let _ = call.answer.send(Err(Unavailable::NoLeader));
    }
}

/// Who is to ask again: members of this one's clients; those of others are told so.
fn unanswered(calls: Vec<Call>) -> Vec<Call> {
    let (peers, own): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.from_peer);
    refuse(peers);
    own
}

impl Office {
    /// Puts a command into the log that counts in this term only. Whether it was applied.
    async fn propose(&self, op: Op, term: u64) -> bool {
        let proposal = Proposal::new(&Command { only_in_term: term, ..Command::from(op) });
        let (done, applied) = oneshot::channel();
        let reply = Some(Reply::new(To::Lessor(done)));
        self.raft.client_write_ff(proposal, reply).await.is_ok() && applied.await.unwrap_or(false)
    }

    /// Returns once it is sure that this member led when this was called, and has applied what was
    /// committed then.
    async fn confirm(&self) -> bool {
        let Ok(linearizer) = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await else {
            return false;
        };
        self.handle.current.wait_applied(linearizer.read_log_id().index() + 1).await
    }

    /// Answers as the leader; what cannot be answered now is returned.
    async fn answer(&self, calls: Vec<Call>) -> Vec<Call> {
        let (begun, patience) = (Instant::now(), self.handle.election_timeout);
        let confirmed = tokio::time::timeout(patience, self.confirm()).await;
        // After a pause of the process, what was confirmed before it is worth nothing.
        if confirmed != Ok(true) || begun.elapsed() >= patience {
            return unanswered(calls);
        }
        let (mut left, noted) = self.answer_each(calls);
        if !noted.is_empty() {
            let mut noted = self.clear_notes(noted).await;
            // That may have taken long, or the process was paused meanwhile.
            if begun.elapsed() < patience {
                let (again, still_noted) = self.answer_each(noted);
                left.extend(again);
                noted = still_noted;
            }
            left.extend(noted);
        }
        unanswered(left)
    }

    /// Returns what has to wait, and what waits for notes in the log to be gone.
    fn answer_each(&self, calls: Vec<Call>) -> (Vec<Call>, Vec<Call>) {
        let (mut left, mut noted) = (Vec::new(), Vec::new());
        for call in calls {
            let told = match call.ask {
                Ask::TimeToLive(id) => self.lessor.time_to_live(id),
                Ask::Renew(id) => match self.lessor.renew(id) {
                    Some((_, ttl, Renewal::Renewed)) => Some(Told { ttl: Some(ttl), granted: 0 }),
                    Some((_, _, Renewal::Unknown)) => Some(Told::default()),
                    Some((_, _, Renewal::Noted)) => {
                        noted.push(call);
                        continue;
                    }
                    // One that ended is as good as revoked, but clients must not hear of it before
                    // watchers can.
                    Some((_, _, Renewal::Undecided)) | None => None,
                },
            };
            match told {
                // Whoever asked may have stopped waiting.
                Some(told) => drop(call.answer.send(Ok(told))),
                None => left.push(call),
            }
        }
        (left, noted)
    }

    /// The next leader must not go by notes that are older than the renewal.
    async fn clear_notes(&self, calls: Vec<Call>) -> Vec<Call> {
        let ids = || {
            calls.iter().filter_map(|call| match call.ask {
                Ask::Renew(id) => Some(id),
                Ask::TimeToLive { .. } => None,
            })
        };
        let checkpoints = ids().map(|id| LeaseCheckpoint { id, remaining_ttl: 0 }).collect();
        let op = Op::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints });
        let term = self.handle.standing().term;
        if self.propose(op, term).await {
            self.lessor.forget_notes(term, ids());
        }
        calls
    }

    /// Asks the leader; what it did not answer is returned.
    async fn ask(&self, leader: u64, mut calls: Vec<Call>) -> Vec<Call> {
        let mut link = self.links.to(leader, Lane::Request);
        let questions = calls.iter().map(|call| question(call.ask)).collect();
        let request = LeasesRequest { identity: Some(link.identity()), questions };
        let patience = self.handle.election_timeout;
        let answers = match within(patience, link.client.ask_leases(request)).await {
            Ok(LeasesResponse { answers }) => answers,
            Err(error) => {
                tracing::debug!(%error, "asking the leader about leases");
                return calls;
            }
        };
        let mut left = Vec::new();
        for (call, answer) in calls.drain(..).zip(answers.into_iter().map(Some).chain(none())) {
            match answer.filter(|answer| answer.answered) {
                // Whoever asked may have stopped waiting.
                Some(answer) => drop(call.answer.send(Ok(told(answer)))),
                None => left.push(call),
            }
        }
        left
    }
}

fn none<T>() -> impl Iterator<Item = Option<T>> {
    std::iter::repeat_with(|| None)
}

fn question(ask: Ask) -> LeaseQuestion {
    match ask {
        Ask::Renew(id) => LeaseQuestion { id, renew: true },
        Ask::TimeToLive(id) => LeaseQuestion { id, renew: false },
    }
}

fn told(answer: LeaseAnswer) -> Told {
    let LeaseAnswer { ttl, granted_ttl, .. } = answer;
    Told { ttl, granted: granted_ttl }
}

/// Answers another member's questions, each if it can be.
pub async fn answer(
    calls: &mpsc::UnboundedSender<Call>,
    questions: Vec<LeaseQuestion>,
    patience: Duration,
) -> Vec<LeaseAnswer> {
    let asked: Vec<_> = questions
        .into_iter()
        .map(|LeaseQuestion { id, renew }| {
            let ask = if renew { Ask::Renew(id) } else { Ask::TimeToLive(id) };
            let (answer, answered) = oneshot::channel();
            // The keeper is gone only when the process stops.
            let _ = calls.send(Call { ask, from_peer: true, answer });
            answered
        })
        .collect();
    let until = Instant::now() + patience;
    let mut answers = Vec::with_capacity(asked.len());
    for answered in asked {
        answers.push(match tokio::time::timeout_at(until, answered).await {
            Ok(Ok(Ok(Told { ttl, granted }))) => {
                LeaseAnswer { answered: true, ttl, granted_ttl: granted }
            }
            _ => LeaseAnswer::default(),
        });
    }
    answers
}
