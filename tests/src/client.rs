//! The generated gRPC stubs over one connection.

use std::time::Duration;

use anyhow::{Context, Result};
use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::{
    AuthenticateRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, RangeRequest, StatusRequest,
};
use proto::healthpb::health_client::HealthClient;
use proto::v3electionpb::election_client::ElectionClient;
use proto::v3lockpb::lock_client::LockClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// As etcd's own client: no limit on what a server may answer.
const RECEIVE_BYTES_MAX: usize = i32::MAX as usize;

/// Sends a token with every call, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

pub(crate) type Wire = InterceptedService<Channel, Token>;

/// What a server says to clients that do not say who they are.
pub(crate) const NOBODY: &str = "etcdserver: user name is empty";

/// One connection to one server, as plain as it gets: nothing is checked, retried or translated.
#[derive(Clone, Debug)]
pub struct Client {
    pub kv: KvClient<Wire>,
    pub watch: WatchClient<Wire>,
    pub lease: LeaseClient<Wire>,
    pub cluster: ClusterClient<Wire>,
    pub maintenance: MaintenanceClient<Wire>,
    pub auth: AuthClient<Wire>,
    pub lock: LockClient<Wire>,
    pub election: ElectionClient<Wire>,
    pub health: HealthClient<Wire>,
    pub channel: Channel,
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
        Ok(Self::over(channel, Token::default()))
    }

    fn over(channel: Channel, token: Token) -> Self {
        let wire = InterceptedService::new(channel.clone(), token);
        Self {
            kv: KvClient::new(wire.clone()).max_decoding_message_size(RECEIVE_BYTES_MAX),
            watch: WatchClient::new(wire.clone()).max_decoding_message_size(RECEIVE_BYTES_MAX),
            lease: LeaseClient::new(wire.clone()),
            cluster: ClusterClient::new(wire.clone()),
            maintenance: MaintenanceClient::new(wire.clone())
                .max_decoding_message_size(RECEIVE_BYTES_MAX),
            auth: AuthClient::new(wire.clone()),
            lock: LockClient::new(wire.clone()),
            election: ElectionClient::new(wire.clone()),
            health: HealthClient::new(wire),
            channel,
        }
    }

    /// The same connection for somebody who has a token.
    pub fn with_token(&self, token: &str) -> Result<Self> {
        let token = Token(Some(token.parse().context("a token is text")?));
        Ok(Self::over(self.channel.clone(), token))
    }

    /// The same connection for a user.
    pub async fn log_in(&self, name: &str, password: &str) -> Result<Self, Status> {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = AuthenticateRequest { name, password };
        let answer = self.auth.clone().authenticate(request).await?.into_inner();
        self.with_token(&answer.token).map_err(|error| Status::unknown(error.to_string()))
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
        let mut request = Request::new(StatusRequest {});
        request.set_timeout(Duration::from_secs(2));
        match client.maintenance.status(request).await {
            Ok(answer) => answer.get_ref().leader != 0,
            // It tells nobody whether there is a leader; a read waits for one before it is refused.
            Err(status) if status.message() == NOBODY => {
                let mut read =
                    Request::new(RangeRequest { key: b"key".into(), ..Default::default() });
                read.set_timeout(Duration::from_secs(2));
                client.kv.range(read).await.is_err_and(|status| status.message() == NOBODY)
            }
            Err(_) => false,
        }
    }
}
