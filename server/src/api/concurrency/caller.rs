//! The other services of this runtime, as they are asked in the name of a client.

use std::sync::Arc;
use std::task::ready;

use proto::etcdserverpb::kv_server::Kv as _;
use proto::etcdserverpb::lease_server::Lease as _;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, RangeRequest, RangeResponse,
    ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Request, Status};

use super::super::watch::{Headers, WatchService};
use super::super::{Kv, Lease, status};
use crate::budget::Exhausted;
use crate::replica::Unavailable;
use crate::watch::{NO_ROOM, Subscription};

/// Seconds that a lease lives which is granted because the client has none, as in etcd. Nobody keeps it.
const LEASE_TTL: i64 = 60;

/// Cloned for each call, with what the client said beside its message.
#[derive(Clone)]
pub struct Caller {
    kv: Arc<Kv>,
    lease: Lease,
    watch: WatchService,
    headers: Headers,
    metadata: MetadataMap,
    extensions: Extensions,
}

impl Caller {
    pub fn new(kv: Arc<Kv>, lease: Lease, watch: WatchService, headers: Headers) -> Self {
        let (metadata, extensions) = Default::default();
        Self { kv, lease, watch, headers, metadata, extensions }
    }

    /// For one call: whatever it asks is asked as its client.
    pub(super) fn of<T>(&self, request: Request<T>) -> (Self, T) {
        let (metadata, extensions, message) = request.into_parts();
        (Self { metadata, extensions, ..self.clone() }, message)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), self.extensions.clone(), message)
    }

    pub(super) async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        let answer = self.kv.txn(self.request(txn)).await;
        answer.map(tonic::Response::into_inner).map_err(unclassified)
    }

    pub(super) async fn range(&self, range: RangeRequest) -> Result<RangeResponse, Status> {
        let answer = self.kv.range(self.request(range)).await;
        answer.map(tonic::Response::into_inner).map_err(unclassified)
    }

    pub(super) async fn delete(&self, key: Vec<u8>) -> Result<DeleteRangeResponse, Status> {
        let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        let answer = self.kv.delete_range(self.request(request)).await;
        answer.map(tonic::Response::into_inner).map_err(unclassified)
    }

    /// The client's lease, or a new one if it has none.
    pub(super) async fn lease_or_new(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = LeaseGrantRequest { ttl: LEASE_TTL, id: 0 };
        let granted = self.lease.lease_grant(self.request(request)).await.map_err(unclassified)?;
        Ok(granted.get_ref().id)
    }

    /// The changes of keys that the client has just read, from `revision` on.
    pub(super) fn changes(&self, key: Vec<u8>, range_end: Vec<u8>, revision: i64) -> Changes {
        let mut subscription = self.watch.subscribe();
        let start_revision = revision;
        let create =
            WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() };
        let request_union = Some(RequestUnion::CreateRequest(create));
        subscription.handle(WatchRequest { request_union });
        Changes { subscription, headers: self.headers.clone() }
    }
}

/// A watch of this process's own.
pub(super) struct Changes {
    subscription: Subscription,
    headers: Headers,
}

impl Changes {
    /// The next events, with the header of the response that held them.
    pub(super) async fn next(&mut self) -> Result<(ResponseHeader, WatchResponse), Status> {
        loop {
            let subscription = &mut self.subscription;
            let outgoing = std::future::poll_fn(|context| {
                std::task::Poll::Ready(ready!(subscription.poll_response(context)))
            });
            let Some(outgoing) = outgoing.await else {
                return Err(unclassified(status::unavailable(Unavailable::Stopped)));
            };
            let response = outgoing.response;
            if response.canceled && response.cancel_reason == NO_ROOM {
                return Err(unclassified(Exhausted.into()));
            }
            if response.canceled {
                return Err(unclassified(status::refused(store::Refusal::Compacted)));
            }
            if !response.events.is_empty() {
                let revision = response.header.map_or(0, |header| header.revision);
                return Ok(((self.headers)(revision), response));
            }
        }
    }
}

/// etcd plays these services with its client library, whose errors keep their text and lose their code.
pub(super) fn unclassified(status: Status) -> Status {
    Status::new(Code::Unknown, status.message())
}
