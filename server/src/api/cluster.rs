//! `etcdserverpb.Cluster`: who the members are.

use proto::etcdserverpb::cluster_server;
use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use tonic::{Request, Response, Status};

use super::{Identity, status};
use crate::replica::Replica;

pub struct Cluster {
    replica: Replica,
    identity: Identity,
}

impl Cluster {
    pub fn new(replica: Replica, identity: Identity) -> Self {
        Self { replica, identity }
    }

    fn members(&self) -> Vec<Member> {
        let mut members: Vec<Member> = self
            .replica
            .store()
            .members()
            .into_iter()
            .map(|member| Member {
                id: member.id,
                name: member.name,
                peer_ur_ls: member.peer_urls,
                client_ur_ls: member.client_urls,
                is_learner: member.is_learner,
            })
            .collect();
        members.sort_by_key(|member| member.id);
        members
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.replica.read_barrier().await.map_err(status::unavailable)?;
        }
        Ok(Response::new(MemberListResponse {
            header: Some(self.identity.header(&self.replica, 0)),
            members: self.members(),
        }))
    }

    async fn member_add(
        &self,
        _request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        Err(status::unimplemented("MemberAdd"))
    }

    async fn member_remove(
        &self,
        _request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(status::unimplemented("MemberRemove"))
    }

    async fn member_update(
        &self,
        _request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(status::unimplemented("MemberUpdate"))
    }

    async fn member_promote(
        &self,
        _request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(status::unimplemented("MemberPromote"))
    }
}
