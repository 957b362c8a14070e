//! To the peers: the clients openraft replicates and campaigns through.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use tokio_stream::{Stream, StreamExt as _};

use super::campaign::Campaigns;
use super::links::{CallError, Lane, Link, Links, failed, within};
use super::machine::SnapshotFile;
use super::types::{Node, Types};
use super::{transfer, wire};
use crate::limits;
use crate::metrics::{self, METRICS};

/// Makes a client for each peer.
#[derive(Clone)]
pub struct Peers {
    links: Links,
    campaigns: Arc<Campaigns>,
    own: transfer::Own,
    retry_interval: Duration,
}

impl Peers {
    /// At most `retry_interval` passes between attempts to reach one that cannot be reached.
    pub fn new(
        links: Links,
        campaigns: Arc<Campaigns>,
        own: transfer::Own,
        retry_interval: Duration,
    ) -> Peers {
        Peers { links, campaigns, own, retry_interval }
    }

    fn peer(&self, id: u64, node: &Node, lane: Lane) -> Peer {
        self.links.book().learn(id, &node.peer_urls);
        let vote = self.links.to(id, Lane::Heartbeat);
        let (campaigns, own) = (self.campaigns.clone(), self.own.clone());
        let (peer, link) = (METRICS.raft.peer(id), self.links.to(id, lane));
        Peer { lane, link, peer, vote, campaigns, own, retry_interval: self.retry_interval }
    }
}

/// The way to one peer.
pub struct Peer {
    lane: Lane,
    link: Link,
    peer: &'static metrics::Peer,
    /// Votes are few, small and urgent.
    vote: Link,
    campaigns: Arc<Campaigns>,
    own: transfer::Own,
    retry_interval: Duration,
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, Lane::Snapshot)
    }
}

fn unanswered(error: &CallError) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(error))
}

fn malformed(what: wire::Malformed) -> RPCError<Types> {
    let what = format!("the answer cannot be understood: {what}");
    RPCError::Network(NetworkError::new(&AnyError::error(what)))
}

type Answers<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;
type Replicating<'s> = BoxFuture<'s, Result<Answers<'s>, RPCError<Types>>>;

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotFile;

    /// Entries go in one stream, many of them before the first is answered. A heartbeat is a call of
    /// its own.
    fn stream_append<'s, S>(&'s mut self, input: S, option: RPCOption) -> Replicating<'s>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.lane == Lane::Heartbeat {
            return stream_append_sequential(self, input, option);
        }
        let identity = self.link.identity();
        Box::pin(async move {
            let mut input = input;
            // After a failure openraft waits in there. Who connects first never gets to wait, and
            // does nothing else while the peer is down.
            let Some(first) = input.next().await else {
                return Ok(Box::pin(tokio_stream::empty()) as Answers<'s>);
            };
            let requests = tokio_stream::once(first).chain(input);
            let requests = requests.map(move |request| wire::append(identity, &request));
            let call = self.link.client.replicate(requests);
            let answers = within(limits::APPEND_TIMEOUT, call).await.map_err(|error| {
                self.peer.send_failures.add(1);
                unanswered(&error)
            })?;
            let answers = answers.map(|answer| {
                let answer = answer.map_err(|status| unanswered(&failed(&status)))?;
                wire::to_replicated(answer).map_err(malformed)
            });
            Ok(Box::pin(answers) as Answers<'s>)
        })
    }

    /// Takes as long as the peer's disk does: openraft's own deadline is a heartbeat, which it
    /// applies to heartbeats itself.
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let call = self.link.client.append(wire::append(self.link.identity(), &request));
        let (began, peer) = (Instant::now(), self.peer);
        let answer = within(limits::APPEND_TIMEOUT, call).await.map_err(|error| {
            peer.send_failures.add(1);
            METRICS.raft.heartbeat_failures.add(u64::from(self.lane == Lane::Heartbeat));
            unanswered(&error)
        })?;
        if self.lane == Lane::Heartbeat {
            peer.round_trips.took(began.elapsed());
        }
        wire::to_appended(answer).map_err(malformed)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let call = self.vote.client.vote(wire::campaign(self.vote.identity(), &request));
        let answer = within(option.hard_ttl(), call).await.map_err(|e| unanswered(&e))?;
        wire::to_voted(answer).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        if !self.campaigns.may_ask(request.last_log_id) {
            let what = AnyError::error("another member is about to be elected");
            return Err(RPCError::Unreachable(Unreachable::new(&what)));
        }
        let call = self.vote.client.pre_vote(wire::campaign(self.vote.identity(), &request));
        let answer = within(option.hard_ttl(), call).await.map_err(|e| unanswered(&e))?;
        wire::to_voted(answer).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            sent = transfer::send(self.link.clone(), vote, snapshot, &self.own) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let call = self.vote.client.transfer_leader(wire::transfer(self.vote.identity(), &request));
        // The target waits for its log before it answers.
        let timeout = option.hard_ttl().max(limits::TRANSFER_ANSWER_TIMEOUT);
        let answer = within(timeout, call).await.map_err(|e| unanswered(&e))?;
        Ok(wire::to_transferred(answer, &request))
    }

    fn backoff(&self) -> Option<Backoff> {
        let longest = self.retry_interval;
        let doubled = move |delay: &Duration| Some((2 * *delay).min(longest));
        Some(Backoff::new(std::iter::successors(Some(longest / 16), doubled)))
    }
}
