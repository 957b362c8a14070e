//! A connection to one of the endpoints, and calls over it.

mod dial;

use std::time::{Duration, Instant};

use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::v3electionpb::election_client::ElectionClient;
use proto::v3lockpb::lock_client::LockClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use self::dial::Dialed;
use crate::failure::{Exit, Failure, connection_error};
use crate::options::Options;

/// Pause between two looks for an endpoint that has a leader.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

type Service = InterceptedService<Channel, Token>;

/// Sends the token of a logged-in user with every call.
#[derive(Clone, Debug)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// One endpoint's services. Cloning shares the connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    service: Service,
    request_bytes_max: usize,
    answer_bytes_max: usize,
}

macro_rules! service {
    ($name:ident, $client:ident) => {
        pub(crate) fn $name(&self) -> $client<Service> {
            $client::new(self.service.clone())
                .max_encoding_message_size(self.request_bytes_max)
                .max_decoding_message_size(self.answer_bytes_max)
        }
    };
}

impl Connection {
    fn new(options: &Options, channel: Channel, token: Option<MetadataValue<Ascii>>) -> Self {
        Self {
            service: InterceptedService::new(channel, Token(token)),
            request_bytes_max: options.request_bytes_max,
            answer_bytes_max: options.answer_bytes_max,
        }
    }

    service!(kv, KvClient);
    service!(watch, WatchClient);
    service!(lease, LeaseClient);
    service!(cluster, ClusterClient);
    service!(auth, AuthClient);
    service!(maintenance, MaintenanceClient);
    service!(lock, LockClient);
    service!(election, ElectionClient);
}

/// Whether a call may be made again elsewhere, and for how long to wait for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Repeated at the next endpoint when one cannot answer.
    Read,
    /// Made once: it may have taken effect although no answer came.
    Write,
    /// A write that waits as long as it takes, as etcdctl's transactions do.
    PatientWrite,
}

#[derive(Debug)]
pub(crate) struct Session {
    options: Options,
    /// The connection in use, and to which endpoint it leads.
    dialed: Dialed,
}

impl Session {
    /// Connects to the first endpoint that can do what may be asked.
    pub(crate) async fn open(options: Options) -> Result<Self, Failure> {
        if options.endpoints.is_empty() {
            return Err(Failure::no_endpoints());
        }
        let dialed = dial::connect(&options, 0..options.endpoints.len()).await?;
        Ok(Self { options, dialed })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.options.endpoints[self.dialed.at]
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.dialed.connection
    }

    /// Connects again, beginning with the endpoint after the current one.
    pub(crate) async fn reopen(&mut self) -> Result<(), Failure> {
        let count = self.options.endpoints.len();
        let order = (1..=count).map(|step| (self.dialed.at + step) % count);
        self.dialed = dial::connect(&self.options, order).await?;
        Ok(())
    }

    /// Connects to another endpoint if there is one that lacks nothing. An election may be under way,
    /// so they have as long for it as for an answer.
    pub(crate) async fn find_better(&mut self) -> bool {
        let others = (0..self.options.endpoints.len()).filter(|at| *at != self.dialed.at);
        let others: Vec<usize> = others.collect();
        let deadline = Instant::now() + self.options.command_timeout;
        while !others.is_empty() && Instant::now() < deadline {
            match dial::connect(&self.options, others.clone()).await {
                Ok(dialed) if dialed.trouble.is_none() => {
                    self.dialed = dialed;
                    return true;
                }
                _ => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            }
        }
        false
    }

    /// Makes a call, on the next endpoints too if it may be repeated, and takes its answer out.
    pub(crate) async fn call<T, F, Fut>(&mut self, call: Call, make: F) -> Result<T, Failure>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let limit = (call != Call::PatientWrite).then_some(self.options.command_timeout);
        let mut tried = Vec::new();
        loop {
            let status = match answer(limit, make(self.dialed.connection.clone())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(waited) => {
                    let trouble = self.dialed.trouble.as_deref();
                    return Err(timed_out(self.endpoint(), waited, trouble));
                }
            };
            let elsewhere =
                status.code() == Code::Unavailable || connection_error(&status).is_some();
            tried.push((self.dialed.at, status));
            let is_left = |at: &usize| tried.iter().all(|(tried, _)| tried != at);
            let left: Vec<usize> = (0..self.options.endpoints.len()).filter(is_left).collect();
            if call != Call::Read || !elsewhere || left.is_empty() {
                return Err(self.failed_call(&tried, None));
            }
            match dial::connect(&self.options, left).await {
                Ok(dialed) => self.dialed = dialed,
                Err(failure) => return Err(self.failed_call(&tried, Some(&failure))),
            }
        }
    }

    /// What all endpoints said that were tried, and why others could not be.
    fn failed_call(&self, tried: &[(usize, Status)], others: Option<&Failure>) -> Failure {
        let endpoint = |at: usize| self.options.endpoints[at].as_str();
        let of_call = |(at, status): &(usize, Status)| Failure::of_call(endpoint(*at), status);
        // What a server says is the news; those that say nothing are told of if all are silent.
        let answered = tried.iter().rfind(|(_, status)| connection_error(status).is_none());
        match (answered, tried, others) {
            (Some(answered), ..) => of_call(answered),
            (None, [only], None) => of_call(only),
            _ => {
                let reason = |status| connection_error(status).unwrap_or_default();
                let silent =
                    tried.iter().map(|(at, s)| format!("{} ({})", endpoint(*at), reason(s)));
                let mut why = format!("no answer from {}", silent.collect::<Vec<_>>().join(", "));
                match others {
                    Some(failure) => why = format!("{why}; {}", failure.text()),
                    None => why += "; are they kvd's client ports, and do they want TLS?",
                }
                Failure::new(Exit::Error, why)
            }
        }
    }
}

/// The answer within `limit`, else the limit.
async fn answer<T>(limit: Option<Duration>, call: impl Future<Output = T>) -> Result<T, Duration> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, call).await.map_err(|_| limit),
        None => Ok(call.await),
    }
}

fn timed_out(endpoint: &str, waited: Duration, trouble: Option<&str>) -> Failure {
    let waited = crate::go::format_duration(waited);
    let advice = match trouble {
        Some(trouble) => format!("no endpoint can do it: {trouble}; a quorum of members must run"),
        None => "it may be overloaded or have no leader: \
                 see 'kvctl endpoint status', or raise --command-timeout"
            .to_owned(),
    };
    Failure::new(Exit::Error, format!("{endpoint} did not answer within {waited}; {advice}"))
}
