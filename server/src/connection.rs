//! Connections: accept, deal out to the runtimes, read requests from each and hand them on.

mod authority;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gather;
mod pings;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tonic::body::Body;

use crate::greeting::Greeted;
use crate::limits;
use crate::listen::Listener;
use crate::metered::{Meter, Metered};
use crate::pages::Answer;
use crate::tls::{Acceptor, ClientCertificate, Stream};
use authority::PlainAuthority;
pub use frames::PREFACE;
use pings::PoliteClient;

/// What a connection's requests are given to.
pub trait Serve: Clone + Send + 'static {
    fn serve(&self, request: Request<Incoming>, way: &Way) -> Answer;

    /// Of a connection that begins.
    fn meter() -> Meter;
}

/// How a request got here.
#[derive(Clone)]
pub struct Way {
    pub entrance: Arc<Entrance>,
    /// What the client showed on its connection.
    pub certificate: Option<ClientCertificate>,
    /// Who its bytes are counted for.
    pub meter: Meter,
}

/// What a listener is for, and how its connections are secured.
pub struct Entrance {
    pub offers: Offers,
    pub tls: Option<Arc<Acceptor>>,
}

/// What is served at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offers {
    /// Whatever it is that is served.
    Everything,
    /// To clients: gRPC only, as their pages have listeners of their own.
    Grpc,
    /// To clients: pages and the gateway, no gRPC.
    Http,
    /// Metrics and health only.
    Metrics,
}

/// A connection that was accepted.
pub struct Arrival {
    pub stream: std::net::TcpStream,
    pub entrance: Arc<Entrance>,
    /// Its place among those that may be open.
    pub place: OwnedSemaphorePermit,
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

/// Accepts connections as long as there are places, and deals them out to the runtimes in turn. Ends
/// with `stop`. Whoever finds no place waits, as in etcd.
pub async fn accept(
    listener: Listener,
    entrance: Arc<Entrance>,
    (runtimes, places): (Vec<mpsc::UnboundedSender<Arrival>>, Arc<Semaphore>),
    mut stop: watch::Receiver<bool>,
) {
    let mut next = 0;
    let next_one = async || {
        // Nobody closes the semaphore.
        let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>((listener.accept().await?, place))
    };
    loop {
        let accepted = tokio::select! {
            accepted = next_one() => accepted,
            () = stopped(&mut stop) => return,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: closing connections will give some back.
                tracing::warn!("accepting a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // A runtime is gone only when the process stops.
        let arrival = Arrival { stream, entrance: entrance.clone(), place };
        let _ = runtimes[next % runtimes.len()].send(arrival);
        next += 1;
    }
}

/// Serves the connections dealt to this runtime until `stop`, then lets open requests finish.
pub async fn serve<S>(
    mut connections: mpsc::UnboundedReceiver<Arrival>,
    services: S,
    options: ConnectionOptions,
    mut stop: watch::Receiver<bool>,
) where
    S: Serve,
{
    let mut open = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(arrival) = connections.recv() => {
                open.spawn(connection(arrival, services.clone(), options.clone(), stop.clone()));
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
    arrival: Arrival,
    services: S,
    options: ConnectionOptions,
    mut stop: watch::Receiver<bool>,
) {
    let Arrival { stream, entrance, place: _place } = arrival;
    let peer = stream.peer_addr().ok();
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return log_end(peer, &error),
    };
    let (stream, certificate) = match &entrance.tls {
        None => (Stream::Plain(stream), None),
        Some(tls) => match tls.accept(stream, peer).await {
            Some(secured) => secured,
            None => return,
        },
    };
    let meter = S::meter();
    let stream = Metered::new(Greeted::new(stream), meter.clone());
    let services = Guided { services, way: Way { entrance, certificate, meter } };
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

/// The services as a connection's requests reach them.
struct Guided<S> {
    services: S,
    way: Way,
}

impl<S: Serve> hyper::service::Service<Request<Incoming>> for Guided<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.services.serve(request, &self.way)
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
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP1_HEADER_TIMEOUT)
        .max_buf_size(limits::HTTP1_BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::H2_STREAM_WINDOW)
        .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
        .max_concurrent_streams(options.concurrent_streams_max.min(limits::H2_STREAMS_MAX))
        .max_header_list_size(limits::H2_HEADER_LIST_BYTES_MAX)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout.unwrap_or(limits::FOREVER));
    builder
}
