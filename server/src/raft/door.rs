//! The peer port: consensus between members, and the pages they read before that.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use proto::peer::peer_server::PeerServer;
use tonic::body::Body;
use tonic::codegen::Service;

use super::service::PeerService;
use crate::http_pages::{Answer, PeerPages};
use crate::limits;

/// What a peer finds here. Cloning shares it.
#[derive(Clone)]
pub struct PeerServices {
    peer: PeerServer<PeerService>,
    pages: PeerPages,
}

impl PeerServices {
    pub fn new(service: PeerService, pages: PeerPages) -> PeerServices {
        let peer = PeerServer::new(service)
            .max_decoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        PeerServices { peer, pages }
    }
}

impl hyper::service::Service<Request<Incoming>> for PeerServices {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        match request.uri().path().starts_with("/kvd.peer.Peer/") {
            true => self.peer.clone().call(request),
            false => hyper::service::Service::call(&self.pages, request),
        }
    }
}
