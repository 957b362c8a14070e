//! Client connections: accept, deal out to the runtimes, route each request to its service.
//!
//! One port speaks gRPC over HTTP/2 and plain HTTP/1; what decides is the request itself.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use proto::etcdserverpb::cluster_server::ClusterServer;
use proto::etcdserverpb::kv_server::KvServer;
use proto::etcdserverpb::maintenance_server::MaintenanceServer;
use proto::etcdserverpb::watch_server::WatchServer;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

use crate::api::watch::WatchService;
use crate::api::{Cluster, Kv, Maintenance, status};
use crate::authority::PlainAuthority;
use crate::http_pages::Answer;
use crate::listen::Listener;
use crate::replica::{Replica, Unavailable};
use crate::{gather, http_pages, limits};

/// The services of one runtime. Cloning shares them.
#[derive(Clone)]
pub struct Services {
    pub kv: KvServer<Kv>,
    pub watch: WatchServer<WatchService>,
    pub cluster: ClusterServer<Cluster>,
    pub maintenance: MaintenanceServer<Maintenance>,
    pub replica: Replica,
    pub pages: Arc<http_pages::Pages>,
}

impl hyper::service::Service<Request<Incoming>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        if !is_grpc(request.headers()) {
            let page = self.pages.answer(&request, &self.replica);
            return Box::pin(async { Ok(page.await) });
        }
        if let Err(status) = self.check_metadata(request.headers()) {
            return answer(status);
        }
        let Some(service) = request.uri().path().split('/').nth(1) else {
            return answer(status::unimplemented(request.uri().path()));
        };
        let called: Answer = match service {
            "etcdserverpb.KV" => self.kv.clone().call(request),
            "etcdserverpb.Watch" => self.watch.clone().call(request),
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request),
            "etcdserverpb.Cluster" => self.cluster.clone().call(request),
            _ => return answer(status::unimplemented(request.uri().path())),
        };
        Box::pin(async {
            let mut response = called.await?;
            as_grpc_go_says(response.headers_mut());
            Ok(response)
        })
    }
}

impl Services {
    /// What etcd's clients say about the call beside its message.
    fn check_metadata(&self, headers: &HeaderMap) -> Result<(), Status> {
        if let Some(version) = headers.get("client-api-version")
            && std::str::from_utf8(version.as_bytes()).is_err()
        {
            return Err(Status::invalid_argument("etcdserver: invalid client api version"));
        }
        let needs_leader = headers.get("hasleader").is_some_and(|value| value == "true");
        if needs_leader && self.replica.standing().leader == 0 {
            return Err(status::unavailable(Unavailable::NoLeader));
        }
        Ok(())
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn answer(status: Status) -> Answer {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// A message above the limit is refused by tonic with a code and text of its own; clients know
/// grpc-go's.
fn as_grpc_go_says(headers: &mut HeaderMap) {
    if headers.get("grpc-status").is_none_or(|code| code != "11") {
        return;
    }
    let Some(numbers) = headers
        .get("grpc-message")
        .and_then(|message| message.to_str().ok())
        .and_then(|message| message.split_once("message%20length%20too%20large"))
        .map(|(_, rest)| rest)
    else {
        return;
    };
    let mut numbers = numbers.split("%20").filter_map(|word| {
        word.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().ok()
    });
    if let (Some(found), Some(limit)) = (numbers.next(), numbers.next()) {
        let text =
            format!("grpc:%20received%20message%20larger%20than%20max%20({found}%20vs.%20{limit})");
        headers.insert("grpc-status", HeaderValue::from(Code::ResourceExhausted as i32));
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert("grpc-message", text);
        }
    }
}

/// What a connection's requests are given to.
pub trait Serve:
    hyper::service::Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future = Answer,
    > + Clone
    + Send
    + 'static
{
}

impl Serve for Services {}
impl Serve for http_pages::PeerPages {}

/// How connections are kept.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    pub concurrent_streams_max: u32,
    pub keepalive_interval: Option<Duration>,
    pub keepalive_timeout: Option<Duration>,
}

/// Accepts connections and deals them out to the runtimes in turn. Ends with `stop`.
pub async fn accept(
    listener: Listener,
    runtimes: Vec<mpsc::UnboundedSender<std::net::TcpStream>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut next = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: closing connections will give some back.
                tracing::warn!("accepting a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // A runtime is gone only when the process stops.
        let _ = runtimes[next % runtimes.len()].send(stream);
        next += 1;
    }
}

/// Serves the connections dealt to this runtime until `stop`, then lets open requests finish.
pub async fn serve<S>(
    mut connections: mpsc::UnboundedReceiver<std::net::TcpStream>,
    services: S,
    options: ConnectionOptions,
    mut stop: watch::Receiver<bool>,
) where
    S: Serve,
{
    let mut open = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(stream) = connections.recv() => {
                open.spawn(connection(stream, services.clone(), options.clone(), stop.clone()));
            }
            Some(_) = open.join_next() => {}
            () = stopped(&mut stop) => break,
        }
    }
    let drained = async { while open.join_next().await.is_some() {} };
    // Whoever is still there after that, a watcher perhaps, is cut off.
    let _ = tokio::time::timeout(limits::DRAIN_TIMEOUT, drained).await;
}

async fn connection<S: Serve>(
    stream: std::net::TcpStream,
    services: S,
    options: ConnectionOptions,
    mut stop: watch::Receiver<bool>,
) {
    let peer = stream.peer_addr().ok();
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return log_end(peer, &error),
    };
    let builder = builder(&options);
    let (stream, gathered) = gather::gather(stream);
    let stream = TokioIo::new(PlainAuthority::new(stream));
    let mut served = std::pin::pin!(builder.serve_connection(stream, services));
    let result = tokio::select! {
        result = gathered.written(served.as_mut()) => result,
        () = stopped(&mut stop) => {
            served.as_mut().graceful_shutdown();
            gathered.written(served).await
        }
    };
    if let Err(error) = result {
        log_end(peer, &*error);
    }
}

/// Returns when the server stops, or has.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody left to say so means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn log_end(peer: Option<SocketAddr>, error: &(dyn std::error::Error + 'static)) {
    tracing::debug!(?peer, "connection ended: {error}");
}

fn builder(options: &ConnectionOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits::HTTP1_HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::H2_STREAM_WINDOW)
        .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
        .max_concurrent_streams(options.concurrent_streams_max)
        .max_header_list_size(limits::H2_HEADER_LIST_BYTES_MAX)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout.unwrap_or(Duration::MAX));
    builder
}
