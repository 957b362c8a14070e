//! Linearizable reads: one round to the leader's quorum answers all that wait.
//!
//! A round asks how far the log was committed after it began; a read may be served once this member
//! has applied that much. Reads that arrive during a round wait for the next one.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use proto::peer::{ReadIndexRequest, ReadIndexResponse};

use super::core::{Core, Handle};
use super::links::{Lane, Links, within};
use crate::replica::{Outboxes, Reads, Unavailable};

/// Reads on their way to be linearizable.
#[derive(Default)]
pub struct ReadQueue {
    waiting: Vec<Reads>,
    running: bool,
}

impl ReadQueue {
    pub fn push(&mut self, reads: Reads) {
        if !reads.is_empty() {
            self.waiting.push(reads);
        }
    }

    /// What the next round is for, if none is under way and somebody waits.
    pub fn begin(&mut self) -> Option<Vec<Reads>> {
        if self.running || self.waiting.is_empty() {
            return None;
        }
        self.running = true;
        Some(std::mem::take(&mut self.waiting))
    }

    /// A round is over; these need another.
    pub fn end(&mut self, unanswered: Vec<Reads>) {
        self.running = false;
        self.waiting.extend(unanswered);
        self.sweep();
    }

    /// Forgets those who gave up.
    pub fn sweep(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting.into_iter().filter_map(Reads::still_waiting).collect();
    }
}

/// Asks for the index that the reads of this round need. None: not now, try again.
pub async fn round(raft: &Core, links: &Links, leader: u64, timeout: Duration) -> Option<u64> {
    if leader == links.me().member_id {
        return match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Some(linearizer.read_log_id().index() + 1),
            Err(RaftError::APIError(
                LinearizableReadError::ForwardToLeader(_)
                | LinearizableReadError::QuorumNotEnough(_),
            )) => None,
            // The raft thread finds out by itself.
            Err(RaftError::Fatal(_)) => None,
        };
    }
    let mut link = links.to(leader, Lane::Request);
    let request = ReadIndexRequest { identity: Some(link.identity()) };
    match within(timeout, link.client.read_index(request)).await {
        Ok(ReadIndexResponse { index }) => Some(index),
        Err(error) => {
            tracing::debug!(%error, "asking the leader for its read index");
            None
        }
    }
}

/// Answers reads once this member has applied `index`.
pub fn answer(handle: &Handle, outboxes: &Arc<Outboxes>, reads: Vec<Reads>, index: u64) {
    let current = handle.current.clone();
    if current.load().applied().index >= index {
        return answer_all(outboxes, reads, Ok(()));
    }
    let outboxes = outboxes.clone();
    tokio::spawn(async move {
        let applied = current.wait_applied(index).await;
        answer_all(&outboxes, reads, applied.then_some(()).ok_or(Unavailable::Stopped));
    });
}

fn answer_all(outboxes: &Outboxes, reads: Vec<Reads>, result: Result<(), Unavailable>) {
    for reads in reads {
        reads.answer(outboxes, result);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn reads_that_gave_up_are_forgotten_without_a_round() {
        let mut queue = ReadQueue::default();
        let mut patient = Vec::new();
        for _ in 0..100 {
            let (answer, gone) = oneshot::channel();
            let (other, stays) = oneshot::channel();
            for answer in [answer, other] {
                let mut reads = Reads::default();
                reads.waiting.push(answer);
                queue.push(reads);
            }
            drop(gone);
            patient.push(stays);
        }
        queue.sweep();
        assert_eq!(queue.waiting.len(), 100);
        drop(patient);
        queue.sweep();
        assert!(queue.begin().is_none());
    }
}
