//! The Watch service: glues a client's stream of requests to a subscription.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use prost::Message;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::watch_server::Watch;
use proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use store::Refusal;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

#[cfg(test)]
mod tests;

use super::{metadata, status};
use crate::auth::Client;
use crate::budget::{self, Claim, Exhausted};
use crate::limits::REQUEST_OVERHEAD_BYTES;
use crate::replica::Unavailable;
use crate::watch::{self, Hub, Lane, Outgoing, Subscription};

/// Makes a header of this member for a revision.
pub type Headers = Arc<dyn Fn(i64) -> ResponseHeader + Send + Sync>;

/// A future that ends when this member is without a leader for too long.
pub type Abandoned = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Whether a client may have a watcher. `None`: it may, nobody has to be asked.
pub type Guard = Arc<dyn Fn(&Client, &WatchCreateRequest) -> Option<Verdict> + Send + Sync>;

type Verdict = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// Requests of one stream handled before other tasks of the runtime get their turn.
const REQUESTS_MAX: usize = 64;

/// Watch on one runtime: its streams belong to that runtime's lane.
#[derive(Clone)]
pub struct WatchService {
    lane: Arc<Lane>,
    headers: Headers,
    abandoned: Abandoned,
    guard: Guard,
    /// What a response to a watcher that accepts fragments should not exceed, as in etcd.
    fragment_bytes: usize,
}

impl WatchService {
    /// To be called on the runtime that will serve it: the lane's task is spawned there, and ends
    /// when the hub closes.
    pub fn new(
        hub: &Arc<Hub>,
        headers: Headers,
        abandoned: Abandoned,
        guard: Guard,
        request_bytes_max: usize,
    ) -> Self {
        let lane = hub.lane();
        tokio::spawn(lane.clone().run());
        let fragment_bytes = request_bytes_max + REQUEST_OVERHEAD_BYTES;
        Self { lane, headers, abandoned, guard, fragment_bytes }
    }

    /// A watch of this process's own.
    pub fn subscribe(&self) -> Subscription {
        self.lane.subscribe()
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<WatchStream>, Status> {
        let needs_leader = metadata::needs_leader(request.metadata().as_ref());
        Ok(Response::new(WatchStream {
            client: Client::of(&request),
            guard: self.guard.clone(),
            asked: None,
            requests: Some(request.into_inner()),
            abandoned: needs_leader.then(|| (self.abandoned)()),
            subscription: self.lane.subscribe(),
            headers: self.headers.clone(),
            fragment_bytes: self.fragment_bytes,
            fragments: VecDeque::new(),
        }))
    }
}

/// The responses to one client. Polled as fast as the client reads, and no faster.
pub struct WatchStream {
    /// `None` once the client has said it sends no more. Its watchers go on.
    requests: Option<Streaming<WatchRequest>>,
    /// For a client that wants to be told when there is no leader.
    abandoned: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// As it came with the call: its watchers go on when permissions change, and new ones are asked
    /// for by the same name.
    client: Client,
    guard: Guard,
    /// A watcher that waits for its verdict, and the requests behind it with it.
    asked: Option<(WatchRequest, Verdict, Claim)>,
    subscription: Subscription,
    headers: Headers,
    fragment_bytes: usize,
    /// What is left of the response that is being sent in parts.
    fragments: VecDeque<WatchResponse>,
}

impl Stream for WatchStream {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(fragment) = self.fragments.pop_front() {
            return Poll::Ready(Some(Ok(fragment)));
        }
        if let Some(abandoned) = &mut self.abandoned
            && abandoned.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(status::unavailable(Unavailable::NoLeader))));
        }
        if let Err(status) = self.poll_requests(context) {
            return Poll::Ready(Some(Err(status)));
        }
        let Some(outgoing) = ready!(self.subscription.poll_response(context)) else {
            // With this code clients look for another member.
            return Poll::Ready(Some(Err(Status::unavailable("etcdserver: server stopped"))));
        };
        let response = self.complete(outgoing);
        Poll::Ready(Some(Ok(response)))
    }
}

impl WatchStream {
    /// Handles the requests that have arrived.
    fn poll_requests(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        let mut handled = 0;
        while self.subscription.has_room() {
            if self.poll_asked(context).is_pending() {
                break;
            }
            let Some(requests) = &mut self.requests else { break };
            if handled == REQUESTS_MAX {
                context.waker().wake_by_ref();
                break;
            }
            match Pin::new(requests).poll_next(context) {
                Poll::Ready(Some(request)) => self.take(request?),
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => break,
            }
            handled += 1;
        }
        Ok(())
    }

    fn take(&mut self, request: WatchRequest) {
        let (verdict, bytes) = match &request.request_union {
            // One that begins before all revisions is refused whoever asks.
            Some(RequestUnion::CreateRequest(create)) if create.start_revision >= 0 => {
                ((self.guard)(&self.client, create), watch::bytes_of(create))
            }
            _ => (None, 0),
        };
        let Some(verdict) = verdict else { return self.subscription.handle(request) };
        // Who is asked has the keys, too.
        let mut claim = budget::WATCHERS.claim();
        match claim.resize(2 * bytes) {
            Ok(()) => self.asked = Some((request, verdict, claim)),
            Err(Exhausted) => self.subscription.refuse(watch::NO_ROOM),
        }
    }

    /// Ready when no watcher waits for its verdict.
    fn poll_asked(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((_, verdict, _)) = &mut self.asked else { return Poll::Ready(()) };
        let allowed = ready!(verdict.as_mut().poll(context));
        let (request, ..) = self.asked.take().expect("it was there a moment ago");
        match allowed {
            Ok(()) => self.subscription.handle(request),
            Err(refusal) => self.subscription.refuse(&status::watch_refused(refusal)),
        }
        Poll::Ready(())
    }

    /// Fills in the header, and keeps back what should follow in further fragments.
    fn complete(&mut self, outgoing: Outgoing) -> WatchResponse {
        let Outgoing { mut response, fragment, .. } = outgoing;
        let revision = response.header.map_or(0, |header| header.revision);
        response.header = Some((self.headers)(revision));
        if !fragment || response.encoded_len() < self.fragment_bytes {
            return response;
        }
        self.fragments = split(response, self.fragment_bytes);
        self.fragments.pop_front().expect("a response is split into at least one")
    }
}

/// Splits a response between events, so that each part is smaller than `bytes_max` or has one
/// event. All parts but the last say that more follow.
fn split(mut response: WatchResponse, bytes_max: usize) -> VecDeque<WatchResponse> {
    let mut parts = VecDeque::new();
    let events = std::mem::take(&mut response.events);
    let mut part = WatchResponse { fragment: true, ..response };
    let empty = part.encoded_len();
    let mut bytes = empty;
    for event in events {
        let length = event.encoded_len();
        // The field's tag, and the length in front of the event.
        let added = 1 + prost::length_delimiter_len(length) + length;
        if bytes + added >= bytes_max && !part.events.is_empty() {
            let next = WatchResponse { events: Vec::new(), ..part.clone() };
            parts.push_back(std::mem::replace(&mut part, next));
            bytes = empty;
        }
        bytes += added;
        part.events.push(event);
    }
    part.fragment = false;
    parts.push_back(part);
    parts
}
