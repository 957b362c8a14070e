//! `etcdserverpb.Cluster`: who the members are, and how that changes.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::etcdserverpb::cluster_server;
use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, ResponseHeader,
};
use proto::internal::{MemberUpdate, command::Op};
use tonic::{Request, Response, Status};

use super::{Identity, status};
use crate::config::{Url, ids};
use crate::raft::{Change, types::Node};
use crate::replica::{Admin, Replica};

pub struct Cluster {
    replica: Replica,
    identity: Identity,
}

impl Cluster {
    pub fn new(replica: Replica, identity: Identity) -> Self {
        Self { replica, identity }
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(self.identity.header(&self.replica, 0))
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

    async fn change(&self, change: Change) -> Result<(), Status> {
        self.replica.administer(Admin::Change(change)).await.map_err(status::not_done)
    }

    /// The members once this one has heard of everything that was decided before.
    async fn members_now(&self) -> Result<Vec<Member>, Status> {
        self.replica.read_barrier().await.map_err(status::unavailable)?;
        Ok(self.members())
    }

    /// As in etcd a hash over URLs and time. A member that goes and comes again in the same second
    /// gets another one still: no id is used twice.
    fn new_id(&self, urls: &[Url]) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let store = self.replica.store();
        let used = |id: u64| {
            id == 0 || store.is_removed(id) || store.members().iter().any(|member| member.id == id)
        };
        let mut tries = (now..).map(|second| ids::member_id(urls, &second.to_string()));
        tries.find(|id| !used(*id)).expect("the seconds do not end")
    }
}

/// URLs that members can be reached at, in the order given.
fn peer_urls(texts: &[String]) -> Result<Vec<Url>, Status> {
    let urls: Result<Vec<Url>, String> = texts.iter().map(|text| Url::parse(text)).collect();
    match urls {
        Ok(urls) if !urls.is_empty() && urls.iter().all(|url| url.socket_path().is_none()) => {
            Ok(urls)
        }
        _ => Err(status::bad_member_urls()),
    }
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let members = match request.into_inner().linearizable {
            true => self.members_now().await?,
            false => self.members(),
        };
        Ok(Response::new(MemberListResponse { header: self.header(), members }))
    }

    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let mut urls = peer_urls(&peer_ur_ls)?;
        urls.sort();
        let (id, peer_urls) = (self.new_id(&urls), texts(&urls));
        let node = Node { peer_urls: peer_urls.clone(), ..Node::default() };
        self.change(Change::Add { id, node, learner: is_learner }).await?;
        let member = Member { id, peer_ur_ls: peer_urls, is_learner, ..Member::default() };
        let members = self.members_now().await?;
        let header = self.header();
        Ok(Response::new(MemberAddResponse { header, member: Some(member), members }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let id = request.into_inner().id;
        self.change(Change::Remove { id }).await?;
        let members = match id == self.identity.member_id {
            // Nobody answers this member any more.
            true => self.members().into_iter().filter(|member| member.id != id).collect(),
            false => self.members_now().await?,
        };
        Ok(Response::new(MemberRemoveResponse { header: self.header(), members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        // etcd takes what it cannot use, and its members fall over it.
        let peer_urls = texts(&peer_urls(&peer_ur_ls)?);
        let update = Op::MemberUpdate(MemberUpdate { id, peer_urls });
        let outcome = self.replica.propose(update).await.map_err(status::unavailable)?;
        outcome.map_err(status::refused)?;
        let members = self.members();
        Ok(Response::new(MemberUpdateResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        self.change(Change::Promote { id: request.into_inner().id }).await?;
        let members = self.members_now().await?;
        Ok(Response::new(MemberPromoteResponse { header: self.header(), members }))
    }
}
