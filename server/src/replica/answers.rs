//! Answers on their way back: gathered on the raft thread while a run is applied, sent as one
//! message to each gRPC runtime, and handed to the waiters there.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use super::{Unavailable, lock};
use crate::admission;
use crate::budget;
use crate::limits;
use crate::raft::types::Outcome;
use crate::unsent;

/// With the room that the outcome takes until it is sent.
pub(super) type Answer = Result<(Outcome, budget::Claim), Unavailable>;

/// Who waits for a proposal: a request on one of the gRPC runtimes.
pub struct Waiter {
    pub(super) outboxes: Arc<Outboxes>,
    pub(super) runtime: usize,
    pub(super) answer: oneshot::Sender<Answer>,
    /// The proposal takes its room for as long as this exists, whether somebody listens or not.
    pub(super) claim: admission::Claim,
}

impl Waiter {
    /// Queues the state machine's answer until the run is applied.
    pub fn applied(self, outcome: Outcome) {
        let Self { outboxes, runtime, answer, claim } = self;
        drop(claim);
        let outcome = counted(outcome);
        lock(&outboxes.boxes[runtime].pending).push((answer, outcome));
    }

    /// Whether whoever asked has not given up.
    pub fn is_waiting(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Answers at once: the proposal did not get into the log or was thrown out of it.
    pub fn failed(self, why: Unavailable) {
        // A receiver that is gone stopped waiting.
        let _ = self.answer.send(Err(why));
    }
}

/// What was done is done, but what it answers is dropped if there is no room for it.
fn counted(outcome: Outcome) -> Answer {
    let mut claim = budget::ANSWERS.claim();
    let bytes = outcome.held_bytes();
    if bytes > limits::ANSWER_PIECE_BYTES {
        unsent::grow(&mut claim, bytes).map_err(|_| Unavailable::AnswerDropped)?;
    }
    Ok((outcome, claim))
}

type Pending = Vec<(oneshot::Sender<Answer>, Answer)>;

/// What travels to a runtime as one message, because waking its thread costs more than the rest.
pub(super) enum Delivery {
    Answers(Pending),
    Reads(Vec<oneshot::Sender<Result<(), Unavailable>>>, Result<(), Unavailable>),
}

struct Outbox {
    pending: Mutex<Pending>,
    deliver: mpsc::UnboundedSender<Delivery>,
}

/// Answers on their way back, one box a gRPC runtime.
pub struct Outboxes {
    boxes: Vec<Outbox>,
}

/// The end of an outbox on its runtime.
pub struct Inbox {
    pub(super) runtime: usize,
    pub(super) answers: mpsc::UnboundedReceiver<Delivery>,
}

impl Outboxes {
    pub fn new(runtimes: usize) -> (Arc<Self>, Vec<Inbox>) {
        let (boxes, inboxes) = (0..runtimes)
            .map(|runtime| {
                let (deliver, answers) = mpsc::unbounded_channel();
                let outbox = Outbox { pending: Mutex::default(), deliver };
                (outbox, Inbox { runtime, answers })
            })
            .unzip();
        (Arc::new(Self { boxes }), inboxes)
    }

    /// Sends what gathered, one message per runtime.
    pub fn flush(&self) {
        for outbox in &self.boxes {
            let pending = std::mem::take(&mut *lock(&outbox.pending));
            if !pending.is_empty() {
                // Its runtime is gone only when the process stops.
                let _ = outbox.deliver.send(Delivery::Answers(pending));
            }
        }
    }
}

/// Reads of one turn that wait to be linearizable.
#[derive(Default)]
pub struct Reads {
    pub(super) runtime: usize,
    pub waiting: Vec<oneshot::Sender<Result<(), Unavailable>>>,
}

impl Reads {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Without those who gave up; None when nobody is left.
    pub fn still_waiting(mut self) -> Option<Reads> {
        self.waiting.retain(|waiter| !waiter.is_closed());
        (!self.waiting.is_empty()).then_some(self)
    }

    /// Sends them all the same answer.
    pub fn answer(self, outboxes: &Outboxes, result: Result<(), Unavailable>) {
        let Self { runtime, waiting } = self;
        // Its runtime is gone only when the process stops.
        let _ = outboxes.boxes[runtime].deliver.send(Delivery::Reads(waiting, result));
    }
}

/// Wakes the waiters of this runtime.
pub(super) async fn deliver(mut deliveries: mpsc::UnboundedReceiver<Delivery>) {
    // A receiver that is gone stopped waiting.
    while let Some(delivery) = deliveries.recv().await {
        match delivery {
            Delivery::Answers(answers) => {
                for (waiter, answer) in answers {
                    let _ = waiter.send(answer);
                }
            }
            Delivery::Reads(waiting, result) => {
                for waiter in waiting {
                    let _ = waiter.send(result);
                }
            }
        }
    }
}
