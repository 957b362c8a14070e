//! `etcdserverpb.Lease`: grant, revoke, keep alive, ask.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use proto::etcdserverpb::lease_server;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use proto::internal::command::Op;
use store::Refusal;
use store::mvcc::{Need, Response as Answer};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Identity, metadata, mismatch, room, status};
use crate::auth::Client;
use crate::lease::{Ask, Told};
use crate::limits;
use crate::replica::{AskedLease, Replica, Unavailable};

#[derive(Clone)]
pub struct Lease {
    replica: Replica,
    identity: Identity,
    /// Shorter ones are made as long as this, so that an election does not end them.
    ttl_min: i64,
    stop: watch::Receiver<bool>,
}

impl Lease {
    pub fn new(
        replica: Replica,
        identity: Identity,
        (heartbeat_interval, election_timeout): (Duration, Duration),
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { replica, identity, ttl_min: ttl_min(heartbeat_interval, election_timeout), stop }
    }

    async fn propose(&self, op: Op) -> Result<Result<Answer, Refusal>, Status> {
        self.replica.propose(op).await.map_err(status::unavailable)
    }

    async fn grant(&self, request: LeaseGrantRequest) -> Result<Answer, Status> {
        let ttl = request.ttl.max(self.ttl_min);
        if request.id != 0 {
            let granted = self.propose(Op::LeaseGrant(LeaseGrantRequest { ttl, ..request }));
            return granted.await?.map_err(status::refused);
        }
        loop {
            let id = rand::random_range(1..=i64::MAX);
            match self.propose(Op::LeaseGrant(LeaseGrantRequest { ttl, id })).await? {
                Err(Refusal::LeaseExists) => {}
                granted => return granted.map_err(status::refused),
            }
        }
    }
}

/// One and a half election timeouts in whole heartbeats, in seconds, rounded up: as in etcd.
fn ttl_min(heartbeat_interval: Duration, election_timeout: Duration) -> i64 {
    let heartbeat = heartbeat_interval.as_millis().max(1);
    let ticks = 3 * (election_timeout.as_millis() / heartbeat) / 2;
    (ticks * heartbeat).div_ceil(1000) as i64
}

#[tonic::async_trait]
impl lease_server::Lease for Lease {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        // Asked here, not at the entrance: locks and elections grant leases, too.
        let gate = self.replica.gate();
        gate.check_user(&gate.client(&request)).await?;
        let request = request.into_inner();
        let Answer::LeaseGrant(mut response) = self.grant(request).await? else { mismatch() };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let gate = self.replica.gate();
        let client = gate.client(&request);
        gate.check_user(&client).await?;
        let caller = gate.caller(&client).await?;
        let op = Op::LeaseRevoke(request.into_inner());
        let revoked = self.replica.propose_as(caller, op).await.map_err(status::unavailable)?;
        let Answer::LeaseRevoke(mut response) = revoked.map_err(status::refused)? else {
            mismatch()
        };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(Response::new(response))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let needs_leader = metadata::needs_leader(request.metadata().as_ref());
        // Auth may be switched on while the stream goes on.
        let client = Client::of(&request);
        let (answers, to_client) = mpsc::channel(1);
        let this = self.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = this.keep_alive(&client, request.into_inner(), &answers) => ended,
                why = this.turned_away(needs_leader) => Err(status::unavailable(why)),
                () = answers.closed() => return,
            };
            if let Err(status) = ended {
                // The client may be gone.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(to_client))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let gate = self.replica.gate();
        // Auth may be switched on meanwhile.
        let client = Client::of(&request);
        let request = request.into_inner();
        gate.check_user(&client).await?;
        let pass = gate.admit(&client, &Need::of_time_to_live(&request)).await?;
        let LeaseTimeToLiveRequest { id, keys } = request;
        let mut asked = self.replica.ask_lease(Ask::TimeToLive(id));
        let mut told = self.replica.told(&mut asked).await.map_err(status::unavailable)?;
        let mut attached = Vec::new();
        if keys && told.ttl.is_some() {
            self.replica.read_barrier().await.map_err(status::unavailable)?;
            // It may have ended meanwhile.
            match self.replica.store().lease_keys(id) {
                Some(keys) => attached = keys,
                None => told = Told::default(),
            }
            gate.recheck(pass)?;
            // More may have been attached since the client was admitted: these are what it is told.
            if gate.is_on() {
                let needs = attached.iter().map(|key| Need::Read { key, end: b"" });
                gate.recheck(gate.admit(&client, &needs.collect::<Vec<_>>()).await?)?;
            }
        }
        let header = Some(self.identity.header(&self.replica, self.replica.store().revision()));
        let (ttl, granted_ttl) = (told.ttl.unwrap_or(-1), told.granted);
        room::counted(LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys: attached })
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let gate = self.replica.gate();
        let client = gate.client(&request);
        gate.check_user(&client).await?;
        let leases = self.replica.leases();
        let needs: Vec<Need<'_>> = leases.iter().map(|id| Need::ReadKeysOf(*id)).collect();
        let pass = gate.admit(&client, &needs).await?;
        gate.recheck(pass)?;
        let leases = leases.into_iter().map(|id| LeaseStatus { id }).collect();
        let header = Some(self.identity.header(&self.replica, self.replica.store().revision()));
        room::counted(LeaseLeasesResponse { header, leases })
    }
}

/// A keepalive that the leader was asked for, and the answer but for the time to live.
struct Asked {
    response: LeaseKeepAliveResponse,
    /// Or why the client may not keep it, which ends the stream.
    told: Result<AskedLease, Status>,
}

impl Lease {
    /// Answers the keepalives of a stream in their order.
    async fn keep_alive(
        &self,
        client: &Client,
        mut requests: Streaming<LeaseKeepAliveRequest>,
        answers: &mpsc::Sender<Result<LeaseKeepAliveResponse, Status>>,
    ) -> Result<(), Status> {
        let mut asked: VecDeque<Asked> = VecDeque::new();
        let mut open = true;
        while open || !asked.is_empty() {
            tokio::select! {
                told = self.first_told(&mut asked), if !asked.is_empty() => {
                    let told = told?;
                    if let Some(Asked { mut response, .. }) = asked.pop_front() {
                        response.ttl = told.ttl.unwrap_or(0);
                        // A client that is gone is noticed by whoever runs this.
                        let _ = answers.send(Ok(response)).await;
                    }
                }
                request = requests.message(),
                    if open && asked.len() < limits::LEASE_KEEPALIVES_AHEAD => {
                    match request? {
                        Some(LeaseKeepAliveRequest { id }) => {
                            let asking = self.ask(client, id).await;
                            open = asking.told.is_ok();
                            asked.push_back(asking);
                        }
                        None => open = false,
                    }
                }
            }
        }
        Ok(())
    }

    async fn ask(&self, client: &Client, id: i64) -> Asked {
        let header = self.identity.header(&self.replica, self.replica.store().revision());
        let response = LeaseKeepAliveResponse { header: Some(header), id, ttl: 0 };
        let told = self.may_keep(client, id).await.map(|()| self.replica.ask_lease(Ask::Renew(id)));
        Asked { response, told }
    }

    /// Whoever may not delete the keys of a lease may not keep them either.
    async fn may_keep(&self, client: &Client, id: i64) -> Result<(), Status> {
        let gate = self.replica.gate();
        if !gate.is_on() {
            return Ok(());
        }
        gate.check_user(client).await?;
        let pass = gate.admit(client, &[Need::WriteKeysOf(id)]).await?;
        Ok(gate.recheck(pass)?)
    }

    async fn first_told(&self, asked: &mut VecDeque<Asked>) -> Result<Told, Status> {
        match asked.front_mut() {
            Some(Asked { told: Ok(told), .. }) => {
                self.replica.told(told).await.map_err(status::unavailable)
            }
            Some(Asked { told: Err(status), .. }) => Err(status.clone()),
            None => std::future::pending().await,
        }
    }

    /// Returns why a stream cannot go on: this member stops, or is without a leader for too long and
    /// the client wants to know.
    async fn turned_away(&self, needs_leader: bool) -> Unavailable {
        let abandoned = async {
            match needs_leader {
                true => self.replica.abandoned().await,
                false => std::future::pending().await,
            }
        };
        let mut stop = self.stop.clone();
        tokio::select! {
            () = abandoned => Unavailable::NoLeader,
            // The sender is gone only when the process stops.
            _ = stop.wait_for(|stop| *stop) => Unavailable::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_time_to_live_is_etcds() {
        let millis = Duration::from_millis;
        for (heartbeat, election, expected) in
            [(100, 1000, 2), (100, 1300, 2), (100, 1400, 3), (500, 5000, 8), (10, 100, 1)]
        {
            assert_eq!(ttl_min(millis(heartbeat), millis(election)), expected);
        }
    }
}
