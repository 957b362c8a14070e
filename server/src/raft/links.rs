//! Connections to the other members.
//!
//! Bulk must not hold up what has to be on time, so there is a connection for each [`Lane`]. A
//! connection is made when it is used first, to where the member is known to be at that moment,
//! and made again when it broke.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::peer::Identity;
use proto::peer::peer_client::PeerClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::config::Url;
use crate::limits;
use crate::metered::{Meter, Metered};
use crate::metrics::METRICS;
use crate::replica::Current;
use crate::tls::{Connector, Stream};

/// Who speaks.
#[derive(Clone, Copy, Debug)]
pub struct Me {
    pub cluster_id: u64,
    pub member_id: u64,
    /// Which log it votes and acknowledges by.
    pub log: u64,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Entries of the log.
    Log,
    /// Heartbeats and votes.
    Heartbeat,
    Snapshot,
    /// What this member's clients want from the leader.
    Request,
}

/// Where the members are: by the member table or, before that is known here, by the membership.
pub struct AddressBook {
    current: Arc<Current>,
    first: Mutex<BTreeMap<u64, Vec<String>>>,
    connector: Arc<Connector>,
}

impl AddressBook {
    /// `first`: addresses that hold until the member table has the member.
    pub fn new(
        current: Arc<Current>,
        first: BTreeMap<u64, Vec<String>>,
        connector: Arc<Connector>,
    ) -> AddressBook {
        AddressBook { current, first: Mutex::new(first), connector }
    }

    /// Learns where a member was when it was added.
    pub fn learn(&self, id: u64, peer_urls: &[String]) {
        lock(&self.first).entry(id).or_insert_with(|| peer_urls.to_vec());
    }

    fn urls(&self, id: u64) -> Vec<String> {
        let members = self.current.load().members();
        match members.into_iter().find(|member| member.id == id) {
            Some(member) if !member.peer_urls.is_empty() => member.peer_urls,
            _ => lock(&self.first).get(&id).cloned().unwrap_or_default(),
        }
    }

    async fn connect(&self, id: u64) -> io::Result<Metered<Stream>> {
        let peer = METRICS.raft.peer(id);
        let connected = self.dial(id).await;
        peer.reached(connected.is_ok());
        Ok(Metered::new(connected?, Meter::of(&peer.traffic)))
    }

    async fn dial(&self, id: u64) -> io::Result<Stream> {
        let unknown = format!("no peer URL of member {id:x} is known");
        let mut failure = io::Error::new(io::ErrorKind::NotFound, unknown);
        for url in self.urls(id) {
            let connected = match Url::parse(&url) {
                Ok(url) => self.connector.connect(&url).await,
                Err(what) => Err(io::Error::new(io::ErrorKind::InvalidInput, what)),
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = io::Error::new(error.kind(), format!("{url}: {error}")),
            }
        }
        Err(failure)
    }
}

/// The connections of this member. Cloning shares them.
#[derive(Clone)]
pub struct Links {
    me: Me,
    book: Arc<AddressBook>,
    election_timeout: Duration,
    open: Arc<Mutex<HashMap<(u64, Lane), Channel>>>,
}

impl Links {
    pub fn new(me: Me, book: Arc<AddressBook>, election_timeout: Duration) -> Links {
        Links { me, book, election_timeout, open: Arc::default() }
    }

    pub fn me(&self) -> Me {
        self.me
    }

    pub fn book(&self) -> &AddressBook {
        &self.book
    }

    /// The way to a member. To be called on the runtime that will use it.
    pub fn to(&self, id: u64, lane: Lane) -> Link {
        let channel =
            lock(&self.open).entry((id, lane)).or_insert_with(|| self.channel(id)).clone();
        let client = PeerClient::new(channel)
            .max_decoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        Link { me: self.me, to: id, book: self.book.clone(), client }
    }

    fn channel(&self, id: u64) -> Channel {
        let book = self.book.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let book = book.clone();
            async move { book.connect(id).await.map(TokioIo::new) }
        });
        // A peer that was cut off does not say so: pings find out, as soon as an election would.
        Endpoint::from_static("http://member")
            .user_agent(super::door::user_agent(self.me.member_id))
            .expect("letters and digits are fit for a header")
            .connect_timeout(self.election_timeout)
            .http2_keep_alive_interval(self.election_timeout)
            .keep_alive_timeout(self.election_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(limits::H2_STREAM_WINDOW)
            .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
            .connect_with_connector_lazy(connector)
    }
}

/// The way to one member.
#[derive(Clone)]
pub struct Link {
    me: Me,
    pub to: u64,
    book: Arc<AddressBook>,
    pub client: PeerClient<Channel>,
}

impl Link {
    /// To be put into every request.
    pub fn identity(&self) -> Identity {
        let Me { cluster_id, member_id, log } = self.me;
        let to_log = self.book.current.load().log_of(self.to);
        Identity { cluster_id, from: member_id, to: self.to, from_log: log, to_log }
    }
}

/// Why a call to a member has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It was never sent.
    #[error("cannot connect: {0}")]
    NotSent(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It may have been carried out.
    #[error("{0}")]
    Failed(String),
}

/// Waits for an answer, but not longer than that.
pub async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failed(&status)),
        Err(_) => Err(CallError::Timeout(timeout)),
    }
}

pub fn failed(status: &Status) -> CallError {
    if status.code() == Code::PermissionDenied && status.message() == REMOVED {
        crate::stop::after_requests(REMOVED_REMEDY);
    }
    if status.code() == Code::PermissionDenied && status.message() == LOST_LOG {
        crate::stop::because(LOST_LOG_REMEDY);
    }
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return CallError::NotSent(deepest(error));
        }
        source = error.source();
    }
    CallError::Failed(status.message().to_owned())
}

/// The cause behind all that the layers above say of it.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a member that was removed hears from the others, as in etcd.
pub const REMOVED: &str = "the member has been permanently removed from the cluster";
pub const REMOVED_REMEDY: &str = "the member has been permanently removed from the cluster: to \
    use this machine again, empty the data directory, add a member with `kvctl member add` and \
    start with --initial-cluster-state existing";

/// What a member hears that comes under its old id with another log.
pub const LOST_LOG: &str = "the member has already been bootstrapped with another log";
pub const LOST_LOG_REMEDY: &str = "the member has already been bootstrapped, and what it voted for and \
    acknowledged then is gone with its data: remove it with `kvctl member remove`, add it again with \
    `kvctl member add`, and start it with an empty data directory and --initial-cluster-state existing";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
