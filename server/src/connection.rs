//! Connections: accept, deal out to the runtimes, read requests from each and hand them on.

mod authority;
mod frames;
mod gather;
mod pings;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tonic::body::Body;

use crate::http_pages::Answer;
use crate::limits;
use crate::listen::Listener;
use authority::PlainAuthority;
use pings::PoliteClient;

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

impl<T> Serve for T where
    T: hyper::service::Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future = Answer,
        > + Clone
        + Send
        + 'static
{
}

/// How connections are kept.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    pub concurrent_streams_max: u32,
    /// How often a client may ping; None: as it likes.
    pub ping_interval_min: Option<Duration>,
    /// Between our own pings; None sends none.
    pub keepalive_interval: Option<Duration>,
    /// Time to answer ours; None waits forever.
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
    let stream = PoliteClient::new(stream, options.ping_interval_min);
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
        let _ = tokio::time::timeout(limits::FAREWELL_TIMEOUT, gathered.farewell()).await;
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
