//! `etcdserverpb.Maintenance`: what state this member is in.

use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::maintenance_server;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};
use proto::internal::command::Op;
use store::mvcc::Response as Answer;
use tonic::{Request, Response, Status};

use super::{Identity, downgrade, kv, mismatch, status};
use crate::budget::{self, Claim};
use crate::metrics::METRICS;
use crate::replica::{Admin, Replica};
use crate::snapshots::{SnapshotReader, Snapshots};

/// The sizes that only the composition root can see.
pub trait Disk: Send + Sync {
    /// Bytes of the data directory on disk: log, engine and snapshot files.
    fn physical_bytes(&self) -> u64;
    /// Position of the newest entry in this member's log.
    fn last_index(&self) -> u64;
}

pub struct Maintenance {
    replica: Replica,
    identity: Identity,
    disk: Arc<dyn Disk>,
    snapshots: Arc<Snapshots>,
    version: String,
    quota_bytes: i64,
}

impl Maintenance {
    pub fn new(
        replica: Replica,
        identity: Identity,
        disk: Arc<dyn Disk>,
        snapshots: Arc<Snapshots>,
        version: String,
        quota_bytes: i64,
    ) -> Self {
        Self { replica, identity, disk, snapshots, version, quota_bytes }
    }
}

/// `3.6.16` stores as `3.6.0`: the format belongs to the minor version.
fn storage_version(version: &str) -> String {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => format!("{major}.{minor}.0"),
        _ => version.to_owned(),
    }
}

/// An alarm in the text form of its message, as etcd tells it.
fn alarm_text(alarm: &AlarmMember) -> String {
    let mut text = String::new();
    if alarm.member_id != 0 {
        text += &format!("memberID:{} ", alarm.member_id);
    }
    match alarm.alarm() {
        AlarmType::Nospace => text + "alarm:NOSPACE ",
        AlarmType::Corrupt => text + "alarm:CORRUPT ",
        AlarmType::None => text,
    }
}

/// A snapshot file as etcd streams it: blobs of the image, then its checksum alone.
fn blobs(
    mut file: SnapshotReader,
    version: String,
    place: Claim,
) -> impl Iterator<Item = Result<SnapshotResponse, Status>> + Send {
    let mut remaining = file.bytes;
    std::iter::from_fn(move || {
        // Taken until the last of it was asked for.
        let _ = &place;
        if remaining == 0 {
            return None;
        }
        let checksum_only = remaining == CHECKSUM_BYTES;
        let image_left = remaining.saturating_sub(CHECKSUM_BYTES);
        let take = if checksum_only { CHECKSUM_BYTES } else { image_left.min(BLOB_BYTES) };
        let mut blob = vec![0; take as usize];
        if let Err(error) = file.file.read_exact(&mut blob) {
            remaining = 0;
            return Some(Err(Status::internal(format!("reading the snapshot file: {error}"))));
        }
        remaining -= take;
        Some(Ok(SnapshotResponse {
            header: None,
            remaining_bytes: remaining.saturating_sub(CHECKSUM_BYTES),
            blob,
            version: version.clone(),
        }))
    })
}

/// Bytes of the image in one message, as in etcd.
const BLOB_BYTES: u64 = 32 << 10;
/// A SHA-256 stands behind the image.
const CHECKSUM_BYTES: u64 = 32;

#[tonic::async_trait]
impl maintenance_server::Maintenance for Maintenance {
    async fn status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let store = self.replica.store();
        let standing = self.replica.standing();
        // Never 0: etcdctl divides by the one and etcd never reports the other empty.
        let in_use = store.used_bytes().max(1);
        let mut errors = Vec::new();
        if standing.leader == 0 {
            errors.push("etcdserver: no leader".to_owned());
        }
        errors.extend(store.alarms(AlarmType::None.into()).iter().map(alarm_text));
        let downgrade_info = match store.downgrade_target() {
            Some(target_version) => DowngradeInfo { enabled: true, target_version },
            None => DowngradeInfo::default(),
        };
        Ok(Response::new(StatusResponse {
            header: Some(self.identity.header(&self.replica, store.revision())),
            version: self.version.clone(),
            db_size: self.disk.physical_bytes().max(in_use) as i64,
            leader: standing.leader,
            raft_index: self.disk.last_index(),
            raft_term: standing.term,
            raft_applied_index: store.applied().index,
            errors,
            db_size_in_use: in_use as i64,
            is_learner: store
                .members()
                .iter()
                .any(|member| member.id == self.identity.member_id && member.is_learner),
            storage_version: storage_version(&self.version),
            db_size_quota: self.quota_bytes,
            downgrade_info: Some(downgrade_info),
        }))
    }

    async fn hash(&self, _request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let store = self.replica.store();
        let began = Instant::now();
        let mut read = store.hash();
        let hash = kv::run(|| read.step()).await?;
        METRICS.kv.hash_durations.took(began.elapsed());
        let header = Some(self.identity.header(&self.replica, store.revision()));
        Ok(Response::new(HashResponse { header, hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let began = Instant::now();
        let store = self.replica.store();
        let mut read = store.hash_kv(request.into_inner().revision).map_err(status::refused)?;
        let hashed = kv::run(|| read.step()).await?;
        METRICS.kv.hash_rev_durations.took(began.elapsed());
        Ok(Response::new(HashKvResponse {
            header: Some(self.identity.header(&self.replica, store.revision())),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision,
            hash_revision: hashed.hash_revision,
        }))
    }

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let gate = self.replica.gate();
        let client = gate.client(&request);
        let request = request.into_inner();
        if request.action() == AlarmAction::Get {
            gate.check_user(&client).await?;
            // etcd puts the question into its log; a read that is as new leaves the card alone.
            self.replica.read_barrier().await.map_err(status::unavailable)?;
            let store = self.replica.store();
            let header = Some(self.identity.header(&self.replica, store.revision()));
            return Ok(Response::new(AlarmResponse {
                header,
                alarms: store.alarms(request.alarm),
            }));
        }
        gate.check_root(&client).await?;
        let applied = self.replica.propose(Op::Alarm(request)).await;
        let answer = applied.map_err(status::unavailable)?.map_err(status::refused)?;
        let Answer::Alarm(mut response) = answer else { mismatch() };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(Response::new(response))
    }

    /// Answers at once, and holds up nobody.
    async fn defragment(
        &self,
        _request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        // Rows that are gone leave the engine at checkpoints, and what they took is used again.
        tracing::info!(
            "defragment: there is nothing to do, space is given back as it becomes free"
        );
        self.replica.look_around();
        Ok(Response::new(DefragmentResponse::default()))
    }

    type SnapshotStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        _request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let mut place = budget::SNAPSHOTS.claim();
        place.resize(1)?;
        let store = self.replica.store();
        let snapshots = self.snapshots.clone();
        let file = tokio::task::spawn_blocking(move || snapshots.open_current(&store))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(status::read_failed)?;
        let version = storage_version(&self.version);
        Ok(Response::new(Box::pin(tokio_stream::iter(blobs(file, version, place)))))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let to = request.into_inner().target_id;
        self.replica.administer(Admin::MoveLeader(to)).await.map_err(status::not_done)?;
        Ok(Response::new(MoveLeaderResponse::default()))
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        let (replica, version) = (&self.replica, &self.version);
        let answer =
            downgrade::downgrade(replica, self.identity, version, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}
