//! The peer port: consensus between members, and the pages they read before that.

use std::sync::Arc;

use http::header::USER_AGENT;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use proto::peer::peer_server::PeerServer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::codegen::Service;

use super::service::PeerService;
use crate::connection::{self, Arrival, ConnectionOptions, Serve, Way};
use crate::limits;
use crate::metered::Meter;
use crate::metrics::METRICS;
use crate::pages::{Answer, PeerPages};
use crate::replica::Current;

/// What a peer finds here. Cloning shares it.
#[derive(Clone)]
pub struct PeerServices {
    peer: PeerServer<PeerService>,
    pages: PeerPages,
    current: Arc<Current>,
}

impl PeerServices {
    pub fn new(service: PeerService, pages: PeerPages) -> PeerServices {
        let current = service.current();
        let peer = PeerServer::new(service)
            .max_decoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        PeerServices { peer, pages, current }
    }
}

impl Serve for PeerServices {
    fn serve(&self, request: Request<Incoming>, way: &Way) -> Answer {
        if !way.meter.is_known()
            && let Some(member) = caller(request.headers())
            && self.current.load().is_member(member)
        {
            way.meter.belongs_to(|| &METRICS.raft.peer(member).traffic);
        }
        match request.uri().path().starts_with("/kvd.peer.Peer/") {
            true => self.peer.clone().call(request),
            false => self.pages.answer(&request),
        }
    }

    fn meter() -> Meter {
        Meter::default()
    }
}

/// Serves peers as they come, until `stop`.
pub fn open(
    services: PeerServices,
    (peers, options): (mpsc::UnboundedReceiver<Arrival>, ConnectionOptions),
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    tokio::spawn(connection::serve(peers, services, options, stop))
}

/// How a member names itself on its connections: for statistics only, anybody could say so. Whoever is
/// no member is not counted.
pub fn user_agent(member: u64) -> String {
    format!("{AGENT}{member:x}")
}

const AGENT: &str = "kvd-member/";

fn caller(headers: &HeaderMap) -> Option<u64> {
    let agent = headers.get(USER_AGENT)?.to_str().ok()?;
    // The library puts its own name behind.
    let id = agent.strip_prefix(AGENT)?.split(' ').next()?;
    u64::from_str_radix(id, 16).ok()
}
