//! A connection to the first endpoint that answers, and calls over it.

use std::time::Duration;

use proto::etcdserverpb::AuthenticateRequest;
use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::watch_client::WatchClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::failure::{Exit, Failure, advice, connection_error, root_cause};
use crate::options::Options;
use crate::transport;

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
    service!(kv, KvClient);
    service!(watch, WatchClient);
    service!(cluster, ClusterClient);
    service!(maintenance, MaintenanceClient);
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
    connection: Connection,
    /// Index of the endpoint that `connection` leads to.
    at: usize,
}

impl Session {
    /// Connects to the first endpoint that can be reached.
    pub(crate) async fn open(options: Options) -> Result<Self, Failure> {
        if options.endpoints.is_empty() {
            return Err(Failure::new(
                Exit::BadConnection,
                "no available endpoints; name at least one with --endpoints host:2379",
            ));
        }
        let (at, connection) = connect(&options, 0..options.endpoints.len()).await?;
        Ok(Self { options, connection, at })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.options.endpoints[self.at]
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Connects again, beginning with the endpoint after the current one.
    pub(crate) async fn reopen(&mut self) -> Result<(), Failure> {
        let count = self.options.endpoints.len();
        let order = (1..=count).map(|step| (self.at + step) % count);
        (self.at, self.connection) = connect(&self.options, order).await?;
        Ok(())
    }

    /// Makes a call, on the next endpoints too if it may be repeated, and takes its answer out.
    pub(crate) async fn call<T, F, Fut>(&mut self, call: Call, make: F) -> Result<T, Failure>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let last = self.options.endpoints.len() - 1;
        loop {
            let limit = (call != Call::PatientWrite).then_some(self.options.command_timeout);
            let status = match answer(limit, make(self.connection.clone())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(waited) => return Err(timed_out(self.endpoint(), waited)),
            };
            let elsewhere =
                status.code() == Code::Unavailable || connection_error(&status).is_some();
            if call != Call::Read || !elsewhere || self.at == last {
                return Err(Failure::of_call(self.endpoint(), &status));
            }
            let next = connect(&self.options, self.at + 1..=last).await;
            (self.at, self.connection) =
                next.map_err(|_| Failure::of_call(self.endpoint(), &status))?;
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

fn timed_out(endpoint: &str, waited: Duration) -> Failure {
    let waited = crate::go::format_duration(waited);
    Failure::new(
        Exit::Error,
        format!(
            "{endpoint} did not answer within {waited}; it may be overloaded or have no leader: \
             see 'kvctl endpoint status', or raise --command-timeout"
        ),
    )
}

/// Connects to the first endpoint of `order` that can be reached.
async fn connect(
    options: &Options,
    order: impl IntoIterator<Item = usize>,
) -> Result<(usize, Connection), Failure> {
    let mut failed = Vec::new();
    for at in order {
        let endpoint = &options.endpoints[at];
        match connect_to(options, endpoint).await {
            Ok(connection) => return Ok((at, connection)),
            Err(Refused::Login(failure)) => return Err(failure),
            Err(Refused::Connection(reason)) => {
                let advice = advice(&reason).unwrap_or(IS_KVD_THERE);
                failed.push((endpoint.as_str(), reason, advice));
            }
            Err(Refused::Written(reason, advice)) => {
                failed.push((endpoint.as_str(), reason, advice));
            }
        }
    }
    // etcdctl waits for the connection within the call, unless it has to log in first.
    let exit = if options.login.is_some() { Exit::BadConnection } else { Exit::Error };
    Err(Failure::new(exit, unreachable_text(&failed)))
}

/// What one does about an endpoint where nobody answers.
const IS_KVD_THERE: &str = "is kvd running there? start it or pass --endpoints";

enum Refused {
    /// The endpoint or the TLS options make no connection; with what to do about it.
    Written(String, &'static str),
    Connection(String),
    Login(Failure),
}

async fn connect_to(options: &Options, endpoint: &str) -> Result<Connection, Refused> {
    let endpoint_of = transport::endpoint(options, endpoint)
        .map_err(|(reason, advice)| Refused::Written(reason, advice))?;
    let channel = match tokio::time::timeout(options.dial_timeout, endpoint_of.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(Refused::Connection(root_cause(&error))),
        Err(_) => {
            let waited = crate::go::format_duration(options.dial_timeout);
            return Err(Refused::Connection(format!("no connection within {waited}")));
        }
    };
    let token = match (&options.token, &options.login) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(_)) => log_in(options, endpoint, channel.clone()).await?,
        (None, None) => None,
    };
    let token = token.map(MetadataValue::try_from).transpose().map_err(|_| {
        let message = "the token has characters that cannot be sent; check --auth-jwt-token";
        Refused::Login(Failure::bad_arguments(message))
    })?;
    Ok(Connection {
        service: InterceptedService::new(channel, Token(token)),
        request_bytes_max: options.request_bytes_max,
        answer_bytes_max: options.answer_bytes_max,
    })
}

async fn log_in(
    options: &Options,
    endpoint: &str,
    channel: Channel,
) -> Result<Option<String>, Refused> {
    let Some(login) = &options.login else { return Ok(None) };
    let request =
        AuthenticateRequest { name: login.name.clone(), password: login.password.clone() };
    let mut client = AuthClient::new(channel);
    match answer(Some(options.command_timeout), client.authenticate(request)).await {
        Ok(Ok(response)) => Ok(Some(response.into_inner().token)),
        // A server without users lets everyone in.
        Ok(Err(status)) if status.message() == "etcdserver: authentication is not enabled" => {
            Ok(None)
        }
        Ok(Err(status)) => {
            let failure = Failure::of_call(endpoint, &status);
            Err(Refused::Login(Failure { exit: Exit::BadConnection, ..failure }))
        }
        Err(waited) => Err(Refused::Login(timed_out(endpoint, waited))),
    }
}

fn unreachable_text(failed: &[(&str, String, &str)]) -> String {
    match failed {
        [(endpoint, reason, advice)] => format!("cannot reach {endpoint}: {reason}; {advice}"),
        _ => {
            let each: Vec<String> = failed
                .iter()
                .map(|(endpoint, reason, _)| format!("{endpoint} ({reason})"))
                .collect();
            format!("cannot reach any endpoint: {}; {IS_KVD_THERE}", each.join(", "))
        }
    }
}
