//! Runs openraft on the raft thread and serves the requests of the gRPC runtimes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, LinearizableReadError, RaftError};
use openraft::raft::ClientWriteResult;
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use tokio::sync::{mpsc, watch};

use super::log::Log;
use super::machine::Machine;
use super::network::Peers;
use super::types::{Node, Reply, Types};
use crate::limits;
use crate::replica::{Current, Outboxes, Requests, Standing, Unavailable, Waiter};

type Core = Raft<Types, Machine>;

/// What consensus starts from.
pub struct Start {
    pub member_id: u64,
    /// The members of a cluster that is being founded, the same on each of them; ignored once the
    /// log has begun. None: the log has begun, or a leader will send it.
    pub founders: Option<BTreeMap<u64, Node>>,
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub pre_vote: bool,
    pub log: Log,
    pub machine: Machine,
    pub current: Arc<Current>,
    pub requests: mpsc::UnboundedReceiver<Requests>,
    pub outboxes: Arc<Outboxes>,
    pub standing: watch::Sender<Standing>,
    /// The log index up to which a snapshot file makes the log dispensable.
    pub purge: watch::Receiver<u64>,
    /// Counts the snapshots asked for.
    pub snapshot_requests: watch::Receiver<u64>,
}

/// Starts openraft and serves requests until `stop` is set. Returns the error that stopped it.
pub async fn start(start: Start, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let config = raft_config(&start)?;
    let Start { member_id, founders, log, machine, current, .. } = start;
    let raft = Raft::new(member_id, config, Peers, log, machine)
        .await
        .context("starting consensus on the stored log")?;
    bootstrap(&raft, member_id, founders).await?;

    let mut requests = start.requests;
    let (mut purge, mut snapshot_requests) = (start.purge, start.snapshot_requests);
    let mut roles = raft.server_metrics();
    let mut health = tokio::time::interval(limits::HOUSEKEEPING_INTERVAL);
    loop {
        tokio::select! {
            biased;
            Some(turn) = requests.recv() => serve(&raft, &current, &start.outboxes, turn).await?,
            changed = roles.changed() => {
                changed.context("consensus stopped")?;
                let role = roles.borrow_watched();
                let leader = role.current_leader.unwrap_or_default();
                start.standing.send_replace(Standing { term: role.vote.leader_id.term, leader });
            }
            _ = health.tick() => {
                let metrics = raft.metrics();
                let state = metrics.borrow_watched().running_state.clone();
                state.map_err(|fatal| anyhow::anyhow!("consensus stopped: {fatal}"))?;
            }
            Ok(()) = purge.changed() => {
                let upto = *purge.borrow_and_update();
                if let Some(upto) = upto.checked_sub(1) {
                    raft.trigger().purge_log(upto).await?;
                }
            }
            Ok(()) = snapshot_requests.changed() => raft.trigger().snapshot().await?,
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    raft.shutdown().await.context("stopping consensus")
}

fn raft_config(start: &Start) -> anyhow::Result<Arc<Config>> {
    let election = start.election_timeout.as_millis() as u64;
    let config = Config {
        cluster_name: "kvd".into(),
        heartbeat_interval: start.heartbeat_interval.as_millis() as u64,
        election_timeout_min: election * 2 / 5,
        election_timeout_max: election * 4 / 5,
        max_payload_entries: 4096,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A leader that restarts may have replicated more than it kept: it must win a new term.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(start.pre_vote),
        quorum_loss_probe_interval: Some(election * 8 / 5),
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
            Ok(()) => return Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(error).context("bootstrapping the cluster"),
        }
    }
    // A single voter need not wait for an election timeout: nobody else can lead.
    if raft.voter_ids().eq([member_id]) {
        raft.trigger().elect(false).await?;
    }
    Ok(())
}

async fn serve(
    raft: &Core,
    current: &Arc<Current>,
    outboxes: &Arc<Outboxes>,
    turn: Requests,
) -> anyhow::Result<()> {
    for (proposal, waiter) in turn.proposals {
        raft.client_write_ff(proposal, Some(Reply::new(waiter, deliver))).await?;
    }
    if !turn.reads.is_empty() {
        // One round confirms leadership for all reads of this turn.
        let (raft, current, outboxes) = (raft.clone(), current.clone(), outboxes.clone());
        tokio::spawn(async move {
            let result = read_index(&raft, &current).await;
            turn.reads.answer(&outboxes, result);
        });
    }
    Ok(())
}

fn deliver(waiter: Waiter, result: ClientWriteResult<Types>) {
    match result {
        Ok(response) => waiter.applied(response.data),
        Err(ClientWriteError::ForwardToLeader(_)) => waiter.failed(Unavailable::NoLeader),
        Err(_) => waiter.failed(Unavailable::Stopped),
    }
}

async fn read_index(raft: &Core, current: &Current) -> Result<(), Unavailable> {
    let linearizer = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => linearizer,
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
            return Err(Unavailable::NoLeader);
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            return Err(Unavailable::Timeout);
        }
        Err(RaftError::Fatal(_)) => return Err(Unavailable::Stopped),
    };
    let index = linearizer.read_log_id().index() + 1;
    if current.wait_applied(index).await { Ok(()) } else { Err(Unavailable::Stopped) }
}
