//! `v3electionpb.Election`: one client at a time leads a name, and says something.

use std::pin::Pin;

use proto::KeyValue;
use proto::etcdserverpb::ResponseHeader;
use proto::etcdserverpb::request_op::Request as Op;
use proto::mvccpb::event::EventType;
use proto::v3electionpb::election_server;
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Caller;
use super::caller::Changes;
use super::queue::{self, Place};

pub struct Election {
    caller: Caller,
    stop: watch::Receiver<bool>,
}

impl Election {
    pub fn new(caller: Caller, stop: watch::Receiver<bool>) -> Self {
        Self { caller, stop }
    }
}

type Observed = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

#[tonic::async_trait]
impl election_server::Election for Election {
    /// Answers when the client leads.
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let (caller, CampaignRequest { name, lease, value }) = self.caller.of(request);
        let lease = caller.lease_or_new(lease).await?;
        let prefix = queue::prefix(&name);
        let key = queue::key_of(&prefix, lease);
        let join = queue::txn(
            queue::created_at(&key, 0),
            [queue::put(&key, &value, lease)],
            [Op::RequestRange(queue::get(&key))],
        );
        let joined = caller.txn(join).await?;
        let header = joined.header;
        let mut rev = queue::revision(&joined);
        if let Some(own) = queue::read_at(&joined, 0) {
            rev = own.create_revision;
            if own.value != value {
                let place = Place::new(&caller, &key, Some(rev));
                match proclaim(&caller, &key, (rev, lease), &value).await {
                    Ok(_) => place.keep(),
                    Err(status) => {
                        place.leave().await;
                        return Err(status);
                    }
                }
            }
        }
        let place = Place::new(&caller, &key, Some(rev));
        let turn = queue::wait_turn(&caller, &prefix, rev).await;
        // Whoever waits and is still there stays in the queue even if the wait failed, as in etcd.
        place.keep();
        turn?;
        let leader = Some(LeaderKey { name, key, rev, lease });
        Ok(Response::new(CampaignResponse { header, leader }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let (caller, ProclaimRequest { leader, value }) = self.caller.of(request);
        let LeaderKey { key, rev, lease, .. } = leader.ok_or_else(no_leader_key)?;
        let lease = caller.lease_or_new(lease).await?;
        let header = proclaim(&caller, &key, (rev, lease), &value).await?;
        Ok(Response::new(ProclaimResponse { header }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let (caller, LeaderRequest { name }) = self.caller.of(request);
        let mut range = caller.range(queue::oldest(&queue::prefix(&name))).await?;
        match range.kvs.pop() {
            None => Err(Status::unknown("election: no leader")),
            kv => Ok(Response::new(LeaderResponse { header: range.header, kv })),
        }
    }

    type ObserveStream = Observed;

    /// Tells who leads, what it proclaims, and who leads next.
    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Observed>, Status> {
        let (caller, LeaderRequest { name }) = self.caller.of(request);
        let (tell, told) = mpsc::channel(1);
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            let prefix = queue::prefix(&name);
            // etcd ends the stream without an error as well, whatever the reason.
            tokio::select! {
                _ = observe(&caller, &prefix, &tell) => {}
                () = tell.closed() => {}
                // The sender is gone only when the process stops.
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let (caller, ResignRequest { leader }) = self.caller.of(request);
        let LeaderKey { key, rev, lease, .. } = leader.ok_or_else(no_leader_key)?;
        caller.lease_or_new(lease).await?;
        let header = caller.txn(queue::resignation(&key, rev)).await?.header;
        Ok(Response::new(ResignResponse { header }))
    }
}

fn no_leader_key() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

/// Another value for the key that was created at the revision.
async fn proclaim(
    caller: &Caller,
    key: &[u8],
    (created, lease): (i64, i64),
    value: &[u8],
) -> Result<Option<ResponseHeader>, Status> {
    let put = queue::put(key, value, lease);
    let proclaimed = caller.txn(queue::txn(queue::created_at(key, created), [put], [])).await?;
    match proclaimed.succeeded {
        true => Ok(proclaimed.header),
        false => Err(Status::unknown("election: not leader")),
    }
}

type Tell = mpsc::Sender<Result<LeaderResponse, Status>>;

/// Follows the leaders of a name until that fails, or nobody listens.
async fn observe(caller: &Caller, prefix: &[u8], tell: &Tell) -> Result<(), Status> {
    loop {
        let mut range = caller.range(queue::oldest(prefix)).await?;
        let mut header = range.header.unwrap_or_default();
        let kv = match range.kvs.pop() {
            Some(kv) => kv,
            None => {
                let end = queue::prefix_end(prefix);
                let mut changes = caller.changes(prefix.to_vec(), end, header.revision);
                let (at, kv) = first_put(&mut changes).await?;
                header = at;
                kv
            }
        };
        let Ok(KeyValue { key, .. }) = kv.parse() else { return Ok(()) };
        let next = header.revision + 1;
        let told = LeaderResponse { header: Some(header), kv: Some(kv) };
        tell.send(Ok(told)).await.map_err(|_| Status::cancelled(""))?;
        let mut changes = caller.changes(key.to_vec(), Vec::new(), next);
        follow(&mut changes, tell).await?;
    }
}

/// Tells what the leader proclaims, until its key is gone.
async fn follow(changes: &mut Changes, tell: &Tell) -> Result<(), Status> {
    loop {
        let (header, response) = changes.next().await?;
        for event in response.events {
            if event.r#type() == EventType::Delete {
                return Ok(());
            }
            let told = LeaderResponse { header: Some(header), kv: event.kv };
            tell.send(Ok(told)).await.map_err(|_| Status::cancelled(""))?;
        }
    }
}

/// The first key that is put, and a header as of then.
async fn first_put(
    changes: &mut Changes,
) -> Result<(ResponseHeader, proto::EncodedKeyValue), Status> {
    loop {
        let (header, response) = changes.next().await?;
        let mut puts = response.events.into_iter().filter(|event| event.r#type() == EventType::Put);
        if let Some(kv) = puts.next().and_then(|event| event.kv) {
            let revision = kv.parse().map_or(header.revision, |kv| kv.mod_revision);
            return Ok((ResponseHeader { revision, ..header }, kv));
        }
    }
}
