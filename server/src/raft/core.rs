//! Runs openraft on the raft thread and serves the requests of the gRPC runtimes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::{mpsc, oneshot, watch};

use super::campaign::Campaigns;
use super::contact::Contact;
use super::corruption::{self, Checks};
use super::door::PeerServices;
use super::forward::{self, Forwarded};
use super::links::{AddressBook, Links, Me, REMOVED_REMEDY};
use super::log::Log;
use super::machine::Machine;
use super::network::Peers;
use super::pace::Pace;
use super::reads::{self, ReadQueue};
use super::service::PeerService;
use super::transfer::Own;
use super::types::{Node, Proposal, Reply, To, Types};
use super::{change, door, leases};
use crate::admission::Admission;
use crate::connection::{Arrival, ConnectionOptions};
use crate::lease::{Call, Lessor};
use crate::logging;
use crate::metrics::METRICS;
use crate::pages::PeerPages;
use crate::replica::{Admin, AdminError, Current, Outboxes, Reads, Requests, Standing, Waiter};
use crate::snapshots::Snapshots;
use crate::tls::Connector;

pub type Core = Raft<Types, Machine>;

/// What consensus starts from.
pub struct Start {
    pub me: Me,
    /// The members of a cluster that is being founded, the same on each of them; ignored once the
    /// log has begun. None: the log has begun, or a leader will send it.
    pub founders: Option<BTreeMap<u64, Node>>,
    /// Where members are said to be, until the member table is known here.
    pub addresses: BTreeMap<u64, Vec<String>>,
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub request_timeout: Duration,
    pub pre_vote: bool,
    pub strict_reconfig_check: bool,
    pub max_learners: usize,
    pub log: Log,
    pub machine: Machine,
    pub forwarded: Arc<Forwarded>,
    pub current: Arc<Current>,
    pub admission: Arc<Admission>,
    pub snapshots: Arc<Snapshots>,
    pub requests: mpsc::UnboundedReceiver<Requests>,
    pub outboxes: Arc<Outboxes>,
    pub standing: watch::Sender<Standing>,
    /// The log index up to which a snapshot file makes the log dispensable.
    pub purge: watch::Receiver<u64>,
    /// Counts the snapshots asked for.
    pub snapshot_requests: watch::Receiver<u64>,
    pub lessor: Arc<Lessor>,
    /// Questions about leases: both ends, as other members ask here too.
    pub lease_calls: (mpsc::UnboundedSender<Call>, mpsc::UnboundedReceiver<Call>),
    pub checks: Checks,
    /// Connections of peers, and what they find besides consensus.
    pub peers: mpsc::UnboundedReceiver<Arrival>,
    pub connector: Arc<Connector>,
    pub peer_options: ConnectionOptions,
    pub pages: PeerPages,
}

/// What serves peers shares with the thread's loop.
#[derive(Clone)]
pub struct Handle {
    pub member_id: u64,
    pub current: Arc<Current>,
    pub admission: Arc<Admission>,
    pub contact: Arc<Contact>,
    pub campaigns: Arc<Campaigns>,
    pub standing: watch::Receiver<Standing>,
    pub election_timeout: Duration,
    pub strict_reconfig_check: bool,
    pub max_learners: usize,
    /// One membership change at a time.
    pub changing: Arc<tokio::sync::Mutex<()>>,
}

impl Handle {
    pub fn standing(&self) -> Standing {
        *self.standing.borrow()
    }
}

/// The loop of the raft thread.
struct Loop {
    raft: Core,
    log: Log,
    pace: Pace,
    handle: Handle,
    links: Links,
    forwarded: Arc<Forwarded>,
    outboxes: Arc<Outboxes>,
    standing: watch::Sender<Standing>,
    request_timeout: Duration,
    /// Wait for a leader.
    proposals: Vec<(Proposal, Waiter)>,
    reads: ReadQueue,
    again: mpsc::UnboundedSender<(Proposal, Waiter)>,
    rounds: mpsc::UnboundedSender<Round>,
}

/// A round of reads that is over.
struct Round {
    reads: Vec<Reads>,
    index: Option<u64>,
}

/// Starts openraft and serves requests until `stop` is set. Returns the error that stopped it.
pub async fn start(start: Start, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let config = raft_config(&start)?;
    let Start { me, founders, log, machine, current, mut requests, mut purge, .. } = start;
    let book = Arc::new(AddressBook::new(current.clone(), start.addresses, start.connector));
    let links = Links::new(me, book, start.election_timeout);
    let campaigns = Arc::new(Campaigns::new(me.member_id, start.election_timeout));
    let own = Own { snapshots: start.snapshots.clone(), current: current.clone() };
    let peers = Peers::new(links.clone(), campaigns.clone(), own, start.heartbeat_interval);
    let raft = Raft::new(me.member_id, config, peers, log.clone(), machine)
        .await
        .context("starting consensus on the stored log")?;
    let handle = Handle {
        member_id: me.member_id,
        current,
        admission: start.admission,
        contact: Arc::new(Contact::new(start.election_timeout)),
        campaigns,
        standing: start.standing.subscribe(),
        election_timeout: start.election_timeout,
        strict_reconfig_check: start.strict_reconfig_check,
        max_learners: start.max_learners,
        changing: Arc::default(),
    };
    let leases = leases::start((&raft, &handle, &links), start.lessor, start.lease_calls);
    let service = PeerService::new(raft.clone(), handle.clone(), me, start.snapshots, leases);
    let arrivals = (start.peers, start.peer_options);
    let door = door::open(PeerServices::new(service, start.pages), arrivals, stop.clone());
    corruption::start((&raft, &handle, &links), start.checks);
    bootstrap(&raft, me.member_id, founders).await?;

    let (again, mut refused) = mpsc::unbounded_channel();
    let (rounds, mut ended) = mpsc::unbounded_channel();
    let mut this = Loop {
        raft,
        log,
        pace: Pace::default(),
        handle,
        links,
        forwarded: start.forwarded,
        outboxes: start.outboxes,
        standing: start.standing,
        request_timeout: start.request_timeout,
        proposals: Vec::new(),
        reads: ReadQueue::default(),
        again,
        rounds,
    };
    let mut snapshot_requests = start.snapshot_requests;
    let (contact, mut roles) = (this.handle.contact.clone(), this.raft.server_metrics());
    let mut tick = tokio::time::interval(start.heartbeat_interval);
    loop {
        tokio::select! {
            // What comes rarely goes first: clients keep this loop busy.
            biased;
            Some(round) = ended.recv() => this.end_round(round),
            changed = roles.changed() => {
                changed.context("consensus stopped")?;
                roles.borrow_and_update();
                this.look().await?;
            }
            () = contact.news() => this.look().await?,
            Some(proposal) = refused.recv() => this.proposals.push(proposal),
            _ = tick.tick() => this.tick().await?,
            Ok(()) = purge.changed() => this.purge(*purge.borrow_and_update()).await?,
            Ok(()) = snapshot_requests.changed() => this.raft.trigger().snapshot().await?,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(turn) = requests.recv() => this.serve(turn).await?,
        }
    }
    end(&this.raft).await?;
    door.await.context("serving peers")
}

async fn end(raft: &Core) -> anyhow::Result<()> {
    logging::expect_consensus_to_stop();
    raft.shutdown().await.context("stopping consensus")
}

fn raft_config(start: &Start) -> anyhow::Result<Arc<Config>> {
    let election = start.election_timeout.as_millis() as u64;
    let config = Config {
        cluster_name: "kvd".into(),
        heartbeat_interval: start.heartbeat_interval.as_millis() as u64,
        // A member campaigns when it has not heard from a leader for `max` and then for a random time
        // from `min` to `max`: from 1.1 to 1.4 election timeouts, where etcd takes from 1 to 2. The
        // votes it then asks for have to come within `min`, the voters' disks included.
        election_timeout_min: election * 4 / 10,
        election_timeout_max: election * 7 / 10,
        max_payload_entries: 4096,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A leader that restarts may have replicated more than it kept: it must win a new term.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(start.pre_vote),
        quorum_loss_probe_interval: Some(election * 14 / 10),
        ..Config::default()
    };
    Ok(Arc::new(config.validate().context("heartbeat interval and election timeout")?))
}

/// Writes the first membership, or takes up the stored one.
async fn bootstrap(
    raft: &Core,
    member_id: u64,
    founders: Option<BTreeMap<u64, Node>>,
) -> anyhow::Result<()> {
    if let Some(founders) = founders {
        match raft.initialize(founders).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(error).context("bootstrapping the cluster"),
        }
    }
    // A single voter need not wait for an election timeout: nobody else can lead.
    if raft.voter_ids().eq([member_id]) {
        raft.trigger().elect(false).await?;
    }
    Ok(())
}

impl Loop {
    async fn serve(&mut self, turn: Requests) -> anyhow::Result<()> {
        self.reads.push(turn.reads);
        self.begin_round();
        self.propose(turn.proposals).await?;
        for (admin, answer) in turn.admin {
            self.administer(admin, answer);
        }
        Ok(())
    }

    /// To the log, to the leader, or to wait for one.
    async fn propose(&mut self, proposals: Vec<(Proposal, Waiter)>) -> anyhow::Result<()> {
        let Standing { leader, term, .. } = *self.standing.borrow();
        if leader == self.handle.member_id {
            for (proposal, waiter) in proposals {
                let again = self.again.clone();
                let to = To::Client { waiter, proposal: proposal.clone(), again };
                self.raft.client_write_ff(proposal, Some(Reply::new(to))).await?;
            }
        } else if leader == 0 {
            self.proposals.extend(proposals);
        } else if !proposals.is_empty() {
            let (forwarded, again) = (&self.forwarded, &self.again);
            let timeout = self.request_timeout;
            forward::send(&self.links, forwarded, again, (leader, term), proposals, timeout);
        }
        Ok(())
    }

    fn begin_round(&mut self) {
        let leader = self.standing.borrow().leader;
        if leader == 0 {
            return;
        }
        let Some(reads) = self.reads.begin() else { return };
        let (raft, links) = (self.raft.clone(), self.links.clone());
        let (rounds, timeout) = (self.rounds.clone(), self.handle.election_timeout);
        tokio::spawn(async move {
            let index = reads::round(&raft, &links, leader, timeout).await;
            // The loop is gone only when the process stops.
            let _ = rounds.send(Round { reads, index });
        });
    }

    /// Reads that got no index wait for the next tick.
    fn end_round(&mut self, Round { reads, index }: Round) {
        match index {
            Some(index) => {
                reads::answer(&self.handle, &self.outboxes, reads, index);
                self.reads.end(Vec::new());
                self.begin_round();
            }
            None => self.reads.end(reads),
        }
    }

    fn administer(&self, admin: Admin, mut answer: oneshot::Sender<Result<(), AdminError>>) {
        let (raft, handle, links) = (self.raft.clone(), self.handle.clone(), self.links.clone());
        tokio::spawn(async move {
            let work = async {
                match admin {
                    Admin::Change(change) => change::change(&raft, &handle, &links, change).await,
                    Admin::MoveLeader(to) => change::move_leader(&raft, &handle, to).await,
                    Admin::HandOver => change::hand_over(&raft, &handle).await,
                }
            };
            let done = tokio::select! {
                biased;
                // Whoever was told that it failed must not find it done much later.
                () = answer.closed() => return,
                done = work => done,
            };
            // Whoever asked may have stopped waiting.
            let _ = answer.send(done);
        });
    }

    /// Gives their vote to those who were added to vote and have caught up.
    fn let_vote(&self) {
        if self.standing.borrow().leader != self.handle.member_id {
            return;
        }
        if let Some(id) = change::due_to_vote(&self.raft, &self.handle) {
            let (raft, handle) = (self.raft.clone(), self.handle.clone());
            tokio::spawn(async move { change::let_vote(&raft, &handle, id).await });
        }
    }

    async fn purge(&self, upto: u64) -> anyhow::Result<()> {
        if let Some(upto) = upto.checked_sub(1) {
            self.raft.trigger().purge_log(upto).await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> anyhow::Result<()> {
        self.check()?;
        self.look().await?;
        self.let_vote();
        self.keep_pace();
        Ok(())
    }

    /// Ends the process when consensus did.
    fn check(&self) -> anyhow::Result<()> {
        let metrics = self.raft.metrics();
        let state = metrics.borrow_watched().running_state.clone();
        state.map_err(|fatal| anyhow::anyhow!("consensus stopped: {fatal}"))?;
        self.forwarded.sweep();
        Ok(())
    }

    /// Lets somebody else lead when this member's disk is the slowest.
    fn keep_pace(&mut self) {
        if self.handle.standing().leader != self.handle.member_id {
            return self.pace.reset();
        }
        let metrics = self.raft.data_metrics();
        let committed = metrics.borrow_watched().cluster_committed.map_or(0, |id| id.index + 1);
        if self.pace.look(self.log.flushed(), committed) {
            tracing::warn!(
                "this member's disk is slower than the others': handing leadership over"
            );
            let (raft, handle) = (self.raft.clone(), self.handle.clone());
            tokio::spawn(async move { change::hand_over(&raft, &handle).await });
        }
    }

    /// Finds out who leads, and serves what waited for that.
    async fn look(&mut self) -> anyhow::Result<()> {
        let (leader, term) = self.handle.contact.leader(&self.raft);
        let store = self.handle.current.load();
        if store.is_removed(self.handle.member_id) {
            crate::stop::after_requests(REMOVED_REMEDY);
        }
        let is_learner = store.is_learner(self.handle.member_id);
        self.standing.send_if_modified(|standing| {
            if (standing.leader, standing.term, standing.is_learner) == (leader, term, is_learner) {
                return false;
            }
            let elected = match leader {
                _ if leader == standing.leader => standing.elected,
                0 => standing.elected,
                _ => {
                    METRICS.raft.leader_changes.add(1);
                    Some(Instant::now())
                }
            };
            *standing = Standing { term, leader, elected, is_learner };
            true
        });
        // Nobody would hear what became of the others.
        self.proposals.retain(|(_, waiter)| waiter.is_waiting());
        self.reads.sweep();
        if leader == 0 {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.proposals);
        self.propose(waiting).await?;
        self.begin_round();
        Ok(())
    }
}
