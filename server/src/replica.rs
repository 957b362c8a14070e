//! The replica: the one door to consensus for everything that serves clients.
//!
//! Clients are served on several runtimes, consensus and apply run on one of their own. What
//! crosses over crosses in groups: all proposals and reads that became ready in one turn of a
//! gRPC runtime go to the raft thread as one message, all answers of one applied run come back as
//! one message per runtime, and the waiters are woken there.

mod answers;
mod current;

pub use answers::{Inbox, Outboxes, Reads, Waiter};
pub use current::Current;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::internal::{Caller, Command, command};
use store::mvcc::{Response, Store};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use answers::deliver;

use crate::admission::{Admission, may_grow};
use crate::auth::Gate;
use crate::budget::Claim;
use crate::lease::{self, Lessor};
use crate::metrics::METRICS;
use crate::poke::Poke;
use crate::quota::{Quota, Verdict};
use crate::raft::types::{Outcome, Proposal};
use crate::raft::{Change, ChangeError};

/// Why a proposal or a read barrier has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Refused before it was proposed: nothing has happened.
    TooManyRequests,
    RequestTooLarge,
    NoSpace,
    NoLeader,
    /// The leader was lost meanwhile; a write may have happened.
    LeaderFailed,
    /// The log or the process is stopping; a write may have happened.
    Stopped,
    /// Nobody answered in time; a write may still happen.
    Timeout,
    /// There was no leader to propose it to in all that time: nothing has happened.
    NeverProposed,
    /// It has happened. The answer was large, and there was no room for it.
    AnswerDropped,
}

/// A proposal that was not refused has the state machine's answer.
pub type Proposed = Result<Result<Response, store::Refusal>, Unavailable>;

/// What a gRPC runtime asks of the raft thread in one turn.
#[derive(Default)]
pub struct Requests {
    pub proposals: Vec<(Proposal, Waiter)>,
    pub reads: Reads,
    pub admin: Vec<(Admin, oneshot::Sender<Result<(), AdminError>>)>,
}

/// What is asked of consensus itself.
#[derive(Debug)]
pub enum Admin {
    Change(Change),
    /// Of the leader: that this member leads.
    MoveLeader(u64),
    /// Before this member stops: that another one leads.
    HandOver,
}

/// Why it was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminError {
    Refused(ChangeError),
    /// This member does not lead.
    NotLeader,
    /// No member that votes has that id.
    BadTransferee,
    /// It does not lead yet, and still may soon.
    TransferTimeout,
    Unavailable(Unavailable),
}

/// Where consensus stands, as this member sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub term: u64,
    /// 0 when unknown.
    pub leader: u64,
    /// When this leader became known.
    pub elected: Option<Instant>,
    /// This member has no vote.
    pub is_learner: bool,
}

/// Election timeouts without a leader until streams that need one are ended, as in etcd.
const LEADERLESS_TIMEOUTS: u32 = 3;

/// A question about a lease that is on its way.
pub struct AskedLease {
    answered: oneshot::Receiver<Result<lease::Told, Unavailable>>,
    until: tokio::time::Instant,
}

/// Settings of the door.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    pub recent_bytes_max: usize,
    pub timeout: Duration,
    pub election_timeout: Duration,
}

/// Shared by the handles of all runtimes.
pub struct Shared {
    pub member_id: u64,
    pub current: Arc<Current>,
    pub admission: Arc<Admission>,
    pub quota: Quota,
    pub standing: watch::Receiver<Standing>,
    pub outboxes: Arc<Outboxes>,
    pub options: ReplicaOptions,
    pub to_raft: mpsc::UnboundedSender<Requests>,
    pub lessor: Arc<Lessor>,
    pub gate: Arc<Gate>,
    pub lease_calls: mpsc::UnboundedSender<lease::Call>,
}

/// A gRPC runtime's handle. Cheap to clone within its runtime.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
    turn: Arc<Turn>,
    poke: Poke,
    compacted: watch::Receiver<i64>,
}

/// What gathered in this turn of the runtime and is sent when everything ready has run.
struct Turn {
    runtime: usize,
    requests: Mutex<Requests>,
    gathered: Notify,
}

impl Replica {
    /// Makes the handle of one runtime; to be called on it, because its two tasks live there.
    pub fn new(
        shared: Arc<Shared>,
        inbox: Inbox,
        poke: Poke,
        compacted: watch::Receiver<i64>,
    ) -> Self {
        let turn = Arc::new(Turn {
            runtime: inbox.runtime,
            requests: Mutex::default(),
            gathered: Notify::new(),
        });
        tokio::spawn(send_turns(turn.clone(), shared.to_raft.clone()));
        tokio::spawn(deliver(inbox.answers));
        Self { shared, turn, poke, compacted }
    }

    pub fn store(&self) -> Arc<Store> {
        self.shared.current.load()
    }

    pub fn standing(&self) -> Standing {
        *self.shared.standing.borrow()
    }

    /// Returns once there is a leader, or when consensus stopped.
    pub async fn wait_led(&self) {
        let mut standing = self.shared.standing.clone();
        // Its sender is gone only when the process stops.
        let _ = standing.wait_for(|standing| standing.leader != 0).await;
    }

    /// Returns when there was no leader for so long that clients should look for another member, as
    /// etcd's do if they ask for it.
    pub async fn abandoned(&self) {
        let mut standing = self.shared.standing.clone();
        let patience = LEADERLESS_TIMEOUTS * self.shared.options.election_timeout;
        loop {
            // The sender is gone only when the process stops.
            if standing.wait_for(|standing| standing.leader == 0).await.is_err() {
                return;
            }
            let led = standing.wait_for(|standing| standing.leader != 0);
            match tokio::time::timeout(patience, led).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Who clients are and what they may do.
    pub fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// Replicates a command and returns what applying it answered. It is nobody's: as long as auth is
    /// on it touches no key.
    pub async fn propose(&self, op: command::Op) -> Proposed {
        self.propose_as(None, op).await
    }

    /// Replicates a command of a client.
    pub async fn propose_as(&self, caller: Option<Caller>, op: command::Op) -> Proposed {
        self.propose_counted(caller, op).await.map(|(outcome, _)| outcome)
    }

    /// The same for a command whose answer may be large: with the room that it takes.
    pub async fn propose_counted(
        &self,
        caller: Option<Caller>,
        op: command::Op,
    ) -> Result<(Result<Response, store::Refusal>, Claim), Unavailable> {
        let verdict = self.shared.quota.look(&self.store(), &op);
        if verdict == Verdict::Full {
            self.shared.quota.raise(self, self.shared.member_id).await;
            return Err(Unavailable::NoSpace);
        }
        let grows = may_grow(&op);
        let proposal = Proposal::new(&Command { caller, ..Command::from(op) });
        let claim = self.shared.admission.claim(&proposal, grows)?;
        // As in etcd, whatever is too large is told so first while there is an alarm.
        if verdict == Verdict::Refused {
            return Err(Unavailable::NoSpace);
        }

        let (answer, answered) = oneshot::channel();
        let (outboxes, runtime) = (self.shared.outboxes.clone(), self.turn.runtime);
        let waiter = Waiter { outboxes, runtime, answer, claim };
        let (begun, before) = (Instant::now(), self.standing());
        self.turn.add(|requests| requests.proposals.push((proposal, waiter)));
        let answer = tokio::time::timeout(self.shared.options.timeout, answered).await;
        let failed = match answer {
            Ok(Ok(Ok((Outcome(outcome), claim)))) => return Ok((outcome, claim)),
            Ok(Ok(Err(why))) => why,
            Ok(Err(_)) => Unavailable::Stopped,
            Err(_) => self.timed_out(begun, before),
        };
        METRICS.raft.proposals_failed.add(1);
        Err(failed)
    }

    /// What etcd says of a proposal without an answer: whether there was no leader at all, or one may
    /// be to blame that was lost around the time it was made.
    fn timed_out(&self, begun: Instant, before: Standing) -> Unavailable {
        let now = self.standing();
        if (before.leader, now.leader) == (0, 0) && before.elected == now.elected {
            return Unavailable::NeverProposed;
        }
        let lost = |elected: Instant| {
            begun < elected
                && elected.duration_since(begun) < 2 * self.shared.options.election_timeout
        };
        match now.elected.is_some_and(lost) {
            true => Unavailable::LeaderFailed,
            false => Unavailable::Timeout,
        }
    }

    /// Asks something of consensus itself.
    pub async fn administer(&self, admin: Admin) -> Result<(), AdminError> {
        let (answer, answered) = oneshot::channel();
        let (begun, before) = (Instant::now(), self.standing());
        self.turn.add(|requests| requests.admin.push((admin, answer)));
        match tokio::time::timeout(self.shared.options.timeout, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(AdminError::Unavailable(Unavailable::Stopped)),
            Err(_) => Err(AdminError::Unavailable(self.timed_out(begun, before))),
        }
    }

    /// Returns once reading this member's store is linearizable: everything that was committed
    /// when this was called is applied here.
    pub async fn read_barrier(&self) -> Result<(), Unavailable> {
        let (answer, answered) = oneshot::channel();
        self.turn.add(|requests| requests.reads.waiting.push(answer));
        let failed = match tokio::time::timeout(self.shared.options.timeout, answered).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(why))) => why,
            Ok(Err(_)) => Unavailable::Stopped,
            Err(_) => Unavailable::Timeout,
        };
        METRICS.raft.read_indexes_failed.add(1);
        METRICS.raft.slow_read_indexes.add(u64::from(failed == Unavailable::Timeout));
        Err(failed)
    }

    /// Asks the leader about a lease; to be waited for with [`Self::told`].
    pub fn ask_lease(&self, ask: lease::Ask) -> AskedLease {
        let (answer, answered) = oneshot::channel();
        // The raft thread is gone only when the process stops.
        let _ = self.shared.lease_calls.send(lease::Call { ask, from_peer: false, answer });
        AskedLease { answered, until: tokio::time::Instant::now() + self.shared.options.timeout }
    }

    /// What the leader said. May be begun anew without losing the answer.
    pub async fn told(&self, asked: &mut AskedLease) -> Result<lease::Told, Unavailable> {
        match tokio::time::timeout_at(asked.until, &mut asked.answered).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => Err(Unavailable::Stopped),
            Err(_) if self.standing().leader == 0 => Err(Unavailable::NoLeader),
            Err(_) => Err(Unavailable::Timeout),
        }
    }

    /// The ids of all leases, as this member knows them.
    pub fn leases(&self) -> Vec<i64> {
        self.shared.lessor.list()
    }

    pub fn quota(&self) -> &Quota {
        &self.shared.quota
    }

    /// Has the housekeeper look whether something is due.
    pub fn look_around(&self) {
        self.poke.look();
    }

    /// Returns once the rows that a compaction made superfluous are gone.
    pub async fn wait_compacted(&self, revision: i64) -> Result<(), Unavailable> {
        self.poke.look();
        let mut compacted = self.compacted.clone();
        let gone = compacted.wait_for(|finished| *finished >= revision).await;
        gone.map(|_| ()).map_err(|_| Unavailable::Stopped)
    }
}

impl Turn {
    fn add(&self, push: impl FnOnce(&mut Requests)) {
        let first = {
            let mut requests = lock(&self.requests);
            let first = requests.proposals.is_empty()
                && requests.reads.is_empty()
                && requests.admin.is_empty();
            push(&mut requests);
            first
        };
        if first {
            self.gathered.notify_one();
        }
    }
}

/// Sends each turn's requests. Woken by the first of a turn, it runs behind everything that was
/// ready before it, so the whole turn travels together.
async fn send_turns(turn: Arc<Turn>, to_raft: mpsc::UnboundedSender<Requests>) {
    loop {
        turn.gathered.notified().await;
        let mut requests = std::mem::take(&mut *lock(&turn.requests));
        requests.reads.runtime = turn.runtime;
        if to_raft.send(requests).is_err() {
            return;
        }
    }
}

/// A poisoned lock means a panic, and a panic aborts the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
