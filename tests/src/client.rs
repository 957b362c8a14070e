//! The generated gRPC stubs over one connection.

use std::time::Duration;

use anyhow::{Context, Result};
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, StatusRequest};
use proto::healthpb::health_client::HealthClient;
use proto::v3electionpb::election_client::ElectionClient;
use proto::v3lockpb::lock_client::LockClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// As etcd's own client: no limit on what a server may answer.
const RECEIVE_BYTES_MAX: usize = i32::MAX as usize;

/// One connection to one server, as plain as it gets: nothing is checked, retried or translated.
#[derive(Clone, Debug)]
pub struct Client {
    pub kv: KvClient<Channel>,
    pub watch: WatchClient<Channel>,
    pub lease: LeaseClient<Channel>,
    pub cluster: ClusterClient<Channel>,
    pub maintenance: MaintenanceClient<Channel>,
    pub lock: LockClient<Channel>,
    pub election: ElectionClient<Channel>,
    pub health: HealthClient<Channel>,
}

impl Client {
    /// Connects, once.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(endpoint: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(endpoint.to_owned())
            .context("an endpoint is a URL")?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .connect()
            .await
            .with_context(|| format!("connect to {endpoint}"))?;
        Ok(Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(RECEIVE_BYTES_MAX),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(RECEIVE_BYTES_MAX),
            lease: LeaseClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone())
                .max_decoding_message_size(RECEIVE_BYTES_MAX),
            lock: LockClient::new(channel.clone()),
            election: ElectionClient::new(channel.clone()),
            health: HealthClient::new(channel),
        })
    }

    /// A stream that asks for these leases to be kept and ends; what comes until the server ends it.
    pub async fn keep_alive(
        &mut self,
        ids: Vec<i64>,
    ) -> Vec<Result<LeaseKeepAliveResponse, Status>> {
        let requests = ids.into_iter().map(|id| LeaseKeepAliveRequest { id });
        let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
        let mut answers = Vec::new();
        match self.lease.lease_keep_alive(requests).await {
            Err(status) => answers.push(Err(status)),
            Ok(stream) => {
                let mut stream = stream.into_inner();
                while let Some(answer) = stream.message().await.transpose() {
                    let failed = answer.is_err();
                    answers.push(answer);
                    if failed {
                        break;
                    }
                }
            }
        }
        answers
    }

    /// Whether a server answers at `endpoint` and takes writes, i.e. knows a leader.
    pub async fn is_ready(endpoint: &str) -> bool {
        let Ok(mut client) = Self::connect(endpoint).await else { return false };
        let mut request = tonic::Request::new(StatusRequest {});
        request.set_timeout(Duration::from_secs(2));
        match client.maintenance.status(request).await {
            Ok(answer) => answer.get_ref().leader != 0,
            Err(_) => false,
        }
    }
}
