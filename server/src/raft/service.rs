//! From the peers: what other members ask of this one.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::ReadPolicy;
use openraft::errors::Fatal;
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use openraft::storage::Snapshot;
use proto::peer::snapshot_piece::Piece;
use proto::peer::{self, peer_server};
use store::mvcc::HashKv;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::core::{Core, Handle};
use super::forward;
use super::links::{LOST_LOG, LOST_LOG_REMEDY, Me, REMOVED};
use super::machine::SnapshotFile;
use super::types::{self, Types};
use super::{change, corruption, leases, transfer, wire};
use crate::lease::Call;
use crate::replica::Current;
use crate::snapshots::Snapshots;

/// This member's end of [`peer_server::Peer`].
#[derive(Clone)]
pub struct PeerService {
    raft: Core,
    handle: Handle,
    me: Me,
    snapshots: Arc<Snapshots>,
    /// To the keeper of leases.
    leases: mpsc::UnboundedSender<Call>,
    /// Numbers the snapshot files that are received.
    received: Arc<AtomicU64>,
}

type Answer<T> = Result<Response<T>, Status>;

fn malformed(what: impl Into<String>) -> Status {
    Status::invalid_argument(what)
}

fn stopped(fatal: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("consensus stopped: {fatal}"))
}

impl PeerService {
    pub fn new(
        raft: Core,
        handle: Handle,
        me: Me,
        snapshots: Arc<Snapshots>,
        leases: mpsc::UnboundedSender<Call>,
    ) -> PeerService {
        PeerService { raft, handle, me, snapshots, leases, received: Arc::default() }
    }

    /// Knows who is a member.
    pub fn current(&self) -> Arc<Current> {
        self.handle.current.clone()
    }

    /// Every request is meant for this member of this cluster, and comes from a member that was
    /// not removed.
    fn check(&self, identity: Option<peer::Identity>) -> Result<u64, Status> {
        let identity = identity.ok_or_else(|| malformed("it has no identity"))?;
        let Me { cluster_id, member_id, log } = self.me;
        if identity.cluster_id != cluster_id {
            return Err(Status::failed_precondition(format!(
                "cluster ID mismatch: this is a member of cluster {cluster_id:x}, the request is \
                 for cluster {:x}",
                identity.cluster_id
            )));
        }
        if identity.to != member_id {
            return Err(Status::failed_precondition(format!(
                "member ID mismatch: this is member {member_id:x}, the request is for member {:x}",
                identity.to
            )));
        }
        let store = self.handle.current.load();
        if store.is_removed(identity.from) {
            return Err(Status::permission_denied(REMOVED));
        }
        // Who has lost its log has voted and acknowledged what it does not know any more. It may have
        // lost the table of members, too; but nobody else is to end a member.
        if ![0, log].contains(&identity.to_log) {
            if !store.has_members() || store.is_member(identity.from) {
                crate::stop::because(LOST_LOG_REMEDY);
            }
            return Err(Status::failed_precondition(format!(
                "log mismatch: this member's log is {log:x}, the request is for {:x}, from {:x}, \
                 which is not known to be a member",
                identity.to_log, identity.from
            )));
        }
        if ![0, identity.from_log].contains(&store.log_of(identity.from)) {
            return Err(Status::permission_denied(LOST_LOG));
        }
        Ok(identity.from)
    }
}

/// What a leader sent as far as it is in order; what is not, ends the stream.
fn requests(
    service: PeerService,
    messages: Streaming<peer::AppendRequest>,
    term: Arc<AtomicU64>,
    wrong: Arc<Mutex<Option<Status>>>,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send {
    let request = move |message: Result<peer::AppendRequest, Status>| {
        let mut message = message?;
        service.check(message.identity.take())?;
        wire::to_append(message).map_err(malformed)
    };
    messages.map_while(move |message| match request(message) {
        Ok(request) => {
            term.store(request.vote.leader_id.term, Ordering::Relaxed);
            Some(request)
        }
        Err(status) => {
            *wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            None
        }
    })
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    type ReplicateStream =
        Pin<Box<dyn Stream<Item = Result<peer::ReplicateResponse, Status>> + Send>>;

    async fn replicate(
        &self,
        request: Request<Streaming<peer::AppendRequest>>,
    ) -> Answer<Self::ReplicateStream> {
        let (term, wrong) = (Arc::<AtomicU64>::default(), Arc::<Mutex<_>>::default());
        let requests = requests(self.clone(), request.into_inner(), term.clone(), wrong.clone());
        let contact = self.handle.contact.clone();
        let answers = self.raft.stream_append(requests).map(move |result| {
            let result = result.map_err(stopped)?;
            if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                contact.heard(term.load(Ordering::Relaxed));
            }
            Ok(wire::replicated(&result))
        });
        let ending = tokio_stream::once(()).filter_map(move |()| {
            wrong.lock().unwrap_or_else(PoisonError::into_inner).take().map(Err)
        });
        Ok(Response::new(Box::pin(answers.chain(ending))))
    }

    async fn append(&self, request: Request<peer::AppendRequest>) -> Answer<peer::AppendResponse> {
        let mut message = request.into_inner();
        self.check(message.identity.take())?;
        let request = wire::to_append(message).map_err(malformed)?;
        let vote = request.vote;
        let response = self.raft.append_entries(request).await.map_err(stopped)?;
        if !matches!(response, openraft::raft::AppendEntriesResponse::HigherVote(_)) {
            self.handle.contact.heard(vote.leader_id.term);
        }
        Ok(Response::new(wire::appended(&response)))
    }

    async fn vote(&self, request: Request<peer::VoteRequest>) -> Answer<peer::VoteResponse> {
        let mut message = request.into_inner();
        self.check(message.identity.take())?;
        let request = wire::to_campaign(message).map_err(malformed)?;
        let response = self.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(wire::voted(&response)))
    }

    async fn pre_vote(&self, request: Request<peer::VoteRequest>) -> Answer<peer::VoteResponse> {
        let mut message = request.into_inner();
        let from = self.check(message.identity.take())?;
        let request = wire::to_campaign(message).map_err(malformed)?;
        let last = request.last_log_id;
        let mut response = self.raft.pre_vote(request).await.map_err(stopped)?;
        response.vote_granted =
            response.vote_granted && self.handle.campaigns.may_promise(from, last);
        Ok(Response::new(wire::voted(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferLeaderRequest>,
    ) -> Answer<peer::TransferLeaderResponse> {
        let mut message = request.into_inner();
        self.check(message.identity.take())?;
        let request = wire::to_transfer(message).map_err(malformed)?;
        let response = self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        Ok(Response::new(wire::transferred(&response)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<peer::SnapshotPiece>>,
    ) -> Answer<peer::InstallSnapshotResponse> {
        let mut pieces = request.into_inner();
        let first = transfer::next(&mut pieces).await?.and_then(|first| first.piece);
        let Some(Piece::Head(mut head)) = first else {
            return Err(malformed("it does not begin with a head"));
        };
        let from = self.check(head.identity.take())?;
        let vote = head.vote.as_ref().map(wire::to_vote);
        let vote = vote.ok_or_else(|| malformed("it names no vote"))?;
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.snapshots.incoming(from, number);
        tracing::info!(from = format!("{from:x}"), bytes = head.bytes, "receiving a snapshot file");
        transfer::receive(pieces, &path, head.bytes, self.snapshots.space()).await?;
        let snapshots = self.snapshots.clone();
        let accepted = tokio::task::spawn_blocking(move || snapshots.accept(&path)).await;
        let written = accepted
            .map_err(stopped)?
            .map_err(|fatal| Status::data_loss(format!("the snapshot file is damaged: {fatal}")))?;
        let snapshot = Snapshot {
            meta: types::snapshot_meta(&written),
            snapshot: SnapshotFile { path: written.path },
        };
        let response = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        let vote = Some(wire::vote(&response.vote));
        Ok(Response::new(peer::InstallSnapshotResponse { vote }))
    }

    async fn propose(
        &self,
        request: Request<peer::ProposeRequest>,
    ) -> Answer<peer::ProposeResponse> {
        let message = request.into_inner();
        self.check(message.identity)?;
        let (refuse, mut refusals) = mpsc::unbounded_channel();
        forward::accept(&self.raft, &self.handle, message, &refuse).await.map_err(|error| {
            match error {
                forward::NotAccepted::Malformed(what) => malformed(what),
                forward::NotAccepted::Stopped(fatal) => stopped(fatal),
            }
        })?;
        drop(refuse);
        let mut refused = Vec::new();
        while let Some(refusal) = refusals.recv().await {
            refused.push(refusal);
        }
        Ok(Response::new(peer::ProposeResponse { refused }))
    }

    async fn read_index(
        &self,
        request: Request<peer::ReadIndexRequest>,
    ) -> Answer<peer::ReadIndexResponse> {
        self.check(request.into_inner().identity)?;
        let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        let linearizer = linearizer.map_err(|error| match error.fatal() {
            Some(fatal) => stopped(Fatal::clone(fatal)),
            None => Status::unavailable(format!("not the leader: {error}")),
        })?;
        let index = linearizer.read_log_id().index() + 1;
        Ok(Response::new(peer::ReadIndexResponse { index }))
    }

    async fn ask_leases(
        &self,
        request: Request<peer::LeasesRequest>,
    ) -> Answer<peer::LeasesResponse> {
        let peer::LeasesRequest { identity, questions } = request.into_inner();
        self.check(identity)?;
        let patience = self.handle.election_timeout;
        let answers = leases::answer(&self.leases, questions, patience).await;
        Ok(Response::new(peer::LeasesResponse { answers }))
    }

    async fn hash(&self, request: Request<peer::HashRequest>) -> Answer<peer::HashResponse> {
        let peer::HashRequest { identity, revision } = request.into_inner();
        self.check(identity)?;
        let hash = corruption::hash(self.handle.current.load(), revision).await;
        let HashKv { hash, compact_revision, hash_revision } =
            hash.map_err(Status::out_of_range)?;
        Ok(Response::new(peer::HashResponse { hash, compact_revision, hash_revision }))
    }

    async fn change_members(
        &self,
        request: Request<peer::ChangeMembersRequest>,
    ) -> Answer<peer::ChangeMembersResponse> {
        let mut message = request.into_inner();
        self.check(message.identity.take())?;
        let change = change::from_message(message).map_err(malformed)?;
        let refusal = change::lead(&self.raft, &self.handle, change).await.err();
        let refusal = refusal.map_or(0, change::code);
        Ok(Response::new(peer::ChangeMembersResponse { refusal }))
    }
}
