//! `etcdserverpb.Maintenance`: what state this member is in.

use std::pin::Pin;
use std::sync::Arc;

use proto::etcdserverpb::maintenance_server;
use proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use tonic::{Request, Response, Status};

use super::{Identity, kv, status};
use crate::replica::Replica;

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
    version: String,
    quota_bytes: i64,
}

impl Maintenance {
    pub fn new(
        replica: Replica,
        identity: Identity,
        disk: Arc<dyn Disk>,
        version: String,
        quota_bytes: i64,
    ) -> Self {
        Self { replica, identity, disk, version, quota_bytes }
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

#[tonic::async_trait]
impl maintenance_server::Maintenance for Maintenance {
    async fn status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let store = self.replica.store();
        let standing = self.replica.standing();
        let sizes = store.sizes();
        let in_use = sizes.live_bytes + sizes.history_bytes;
        let mut errors = Vec::new();
        if standing.leader == 0 {
            errors.push("etcdserver: no leader".to_owned());
        }
        Ok(Response::new(StatusResponse {
            header: Some(self.identity.header(&self.replica, store.revision())),
            version: self.version.clone(),
            // Never 0: etcdctl divides by it.
            db_size: self.disk.physical_bytes().max(in_use).max(1) as i64,
            leader: standing.leader,
            raft_index: self.disk.last_index(),
            raft_term: standing.term,
            raft_applied_index: store.applied().index,
            errors,
            db_size_in_use: in_use as i64,
            is_learner: false,
            storage_version: storage_version(&self.version),
            db_size_quota: self.quota_bytes,
            downgrade_info: Some(Default::default()),
        }))
    }

    async fn hash(&self, _request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let store = self.replica.store();
        let mut read = store.hash();
        let hash = kv::run(|| read.step()).await?;
        let header = Some(self.identity.header(&self.replica, store.revision()));
        Ok(Response::new(HashResponse { header, hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let store = self.replica.store();
        let mut read = store.hash_kv(request.into_inner().revision).map_err(status::refused)?;
        let hashed = kv::run(|| read.step()).await?;
        Ok(Response::new(HashKvResponse {
            header: Some(self.identity.header(&self.replica, store.revision())),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision,
            hash_revision: hashed.hash_revision,
        }))
    }

    async fn alarm(
        &self,
        _request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        Err(status::unimplemented("Alarm"))
    }

    async fn defragment(
        &self,
        _request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Err(status::unimplemented("Defragment"))
    }

    type SnapshotStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        _request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(status::unimplemented("Snapshot"))
    }

    async fn move_leader(
        &self,
        _request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(status::unimplemented("MoveLeader"))
    }

    async fn downgrade(
        &self,
        _request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        Err(status::unimplemented("Downgrade"))
    }
}
