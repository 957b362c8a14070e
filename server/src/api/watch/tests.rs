//! The service over a real connection, against a model of the store.

use std::time::Duration;

use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::watch_server::WatchServer;
use proto::etcdserverpb::{
    ResponseHeader, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::transport::{Channel, Server};

use super::*;
use crate::watch::tests::model::Model;
use crate::watch::{Limits, Stats};

/// A member's watch service on a port of its own.
struct Member {
    model: Arc<Model>,
    hub: Arc<Hub>,
    client: WatchClient<Channel>,
}

/// What a response without its header looks like, and the header's revision.
type Received = (i64, WatchResponse);

impl Member {
    async fn start(limits: Limits, request_bytes_max: usize) -> Self {
        let model = Arc::new(Model::default());
        let hub = Hub::new(model.clone(), limits, Box::new(|fatal| panic!("{fatal}")));
        let headers = Arc::new(|revision| ResponseHeader {
            cluster_id: 1,
            member_id: 2,
            revision,
            raft_term: 3,
        });
        let service = WatchService::new(
            &hub,
            headers,
            Arc::new(|| Box::pin(std::future::pending())),
            Arc::new(|_, _| None),
            request_bytes_max,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = WatchServer::new(service).max_encoding_message_size(usize::MAX);
        let server = Server::builder().add_service(server);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let client = WatchClient::connect(format!("http://{address}")).await.unwrap();
        let client = client.max_decoding_message_size(usize::MAX);
        Self { model, hub, client }
    }

    /// Writes one key and publishes it.
    fn put(&self, key: &str, value: &str) -> i64 {
        let revision = self.model.apply(&[(key.into(), Some(value.into()))]).unwrap();
        self.hub.publish(vec![revision.clone()]);
        revision.main
    }

    async fn open(&self) -> Conversation {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let mut client = self.client.clone();
        let responses = client.watch(UnboundedReceiverStream::new(outgoing)).await.unwrap();
        Conversation { requests: Some(requests), responses: responses.into_inner() }
    }

    async fn wait(&self, holds: impl Fn(Stats) -> bool) {
        // The hub tells nobody when its counts change: look until they have.
        while !holds(self.hub.stats()) {
            tokio::task::yield_now().await;
        }
    }
}

struct Conversation {
    requests: Option<mpsc::UnboundedSender<WatchRequest>>,
    responses: Streaming<WatchResponse>,
}

impl Conversation {
    fn send(&self, request_union: Option<RequestUnion>) {
        let requests = self.requests.as_ref().expect("not half closed");
        requests.send(WatchRequest { request_union }).unwrap();
    }

    fn create(&self, request: WatchCreateRequest) {
        self.send(Some(RequestUnion::CreateRequest(request)));
    }

    async fn next(&mut self) -> Received {
        let mut response = self.responses.next().await.expect("not ended").unwrap();
        let header = response.header.take().expect("every response has a header");
        assert_eq!((header.cluster_id, header.member_id, header.raft_term), (1, 2, 3));
        (header.revision, response)
    }
}

fn all_keys() -> WatchCreateRequest {
    WatchCreateRequest { key: vec![0], range_end: vec![0], ..Default::default() }
}

fn created(watch_id: i64) -> WatchResponse {
    WatchResponse { watch_id, created: true, ..Default::default() }
}

fn revisions(response: &WatchResponse) -> Vec<i64> {
    let kvs = response.events.iter().map(|event| event.kv.as_ref().unwrap());
    kvs.map(|kv| kv.parse().unwrap().mod_revision).collect()
}

#[tokio::test]
async fn tells_events_as_they_happen_and_all_that_happened() {
    let member = Member::start(Limits::default(), 1 << 20).await;
    let mut stream = member.open().await;
    stream.create(all_keys());
    assert_eq!(stream.next().await, (1, created(0)));
    for key in ["a", "b"] {
        let put = member.put(key, "1");
        let (revision, response) = stream.next().await;
        assert_eq!((revision, revisions(&response)), (put, vec![put]));
    }
    stream.create(WatchCreateRequest { start_revision: 2, ..all_keys() });
    assert_eq!(stream.next().await, (3, created(1)));
    let (revision, response) = stream.next().await;
    assert_eq!((revision, response.watch_id, revisions(&response)), (3, 1, vec![2, 3]));

    stream.send(Some(RequestUnion::ProgressRequest(WatchProgressRequest {})));
    assert_eq!(stream.next().await, (3, WatchResponse { watch_id: -1, ..Default::default() }));

    stream.send(None);
    stream.send(Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 9 })));
    stream.send(Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 })));
    let canceled = WatchResponse { canceled: true, ..Default::default() };
    assert_eq!(stream.next().await, (3, canceled));
    // What the hub was not told about is not told by it either: a snapshot brings it.
    member.model.apply(&[("c".into(), Some("1".into()))]).unwrap();
    member.hub.jump(4);
    let (revision, response) = stream.next().await;
    assert_eq!((revision, response.watch_id, revisions(&response)), (4, 1, vec![4]));
}

#[tokio::test]
async fn half_close_leaves_the_stream_open_and_hanging_up_releases_it() {
    let member = Member::start(Limits::default(), 1 << 20).await;
    let mut stream = member.open().await;
    stream.create(all_keys());
    stream.next().await;
    stream.requests = None;
    member.put("a", "1");
    assert_eq!(revisions(&stream.next().await.1), [2]);
    assert_eq!(member.hub.stats(), Stats { streams: 1, watchers: 1, lagging: 0, events: 1 });
    drop(stream);
    member.wait(|stats| stats.streams == 0 && stats.watchers == 0).await;
}

#[tokio::test]
async fn compacted_starts_are_canceled() {
    let member = Member::start(Limits::default(), 1 << 20).await;
    for _ in 0..5 {
        member.put("a", "1");
    }
    member.model.compact(5);
    let mut stream = member.open().await;
    stream.create(WatchCreateRequest { start_revision: 4, ..all_keys() });
    assert_eq!(stream.next().await, (6, created(0)));
    let canceled = WatchResponse { canceled: true, compact_revision: 5, ..Default::default() };
    assert_eq!(stream.next().await, (0, canceled));
    stream.create(WatchCreateRequest { start_revision: 5, ..all_keys() });
    assert_eq!(stream.next().await, (6, created(1)));
    let (revision, response) = stream.next().await;
    assert_eq!((revision, revisions(&response)), (6, vec![5, 6]));
}

#[tokio::test]
async fn large_responses_are_split_for_those_who_accept_it() {
    // 512 KiB are allowed on top of the request's bytes.
    let member = Member::start(Limits::default(), 300 << 10).await;
    let value = "x".repeat(300 << 10);
    let txn = ["a", "b", "c", "d", "e"].map(|key| (key.to_owned(), Some(value.clone())));
    let mut whole = member.open().await;
    whole.create(all_keys());
    whole.next().await;
    let mut parts = member.open().await;
    parts.create(WatchCreateRequest { fragment: true, ..all_keys() });
    parts.next().await;

    let revision = member.model.apply(&txn).unwrap();
    member.hub.publish(vec![revision]);
    let (_, expected) = whole.next().await;
    assert_eq!((expected.events.len(), expected.fragment), (5, false));
    let mut joined = WatchResponse::default();
    for (events, fragment) in [(2, true), (2, true), (1, false)] {
        let (revision, part) = parts.next().await;
        assert_eq!((revision, part.events.len(), part.fragment), (2, events, fragment));
        joined.events.extend(part.events);
    }
    assert_eq!(joined, expected);
    // A single event is never split.
    member.put("f", &"x".repeat(1 << 20));
    assert!(!parts.next().await.1.fragment);
}

#[tokio::test]
async fn quiet_watchers_are_told_the_revision() {
    let interval = Duration::from_millis(20);
    let limits = Limits { progress_interval: interval, ..Limits::default() };
    let member = Member::start(limits, 1 << 20).await;
    let mut stream = member.open().await;
    stream.create(WatchCreateRequest { key: b"other".into(), ..Default::default() });
    stream.create(WatchCreateRequest { progress_notify: true, watch_id: 7, ..all_keys() });
    assert_eq!((stream.next().await.1, stream.next().await.1), (created(0), created(7)));
    let progress = WatchResponse { watch_id: 7, ..Default::default() };
    assert_eq!(stream.next().await, (1, progress.clone()));
    member.put("a", "1");
    while stream.next().await != (2, progress.clone()) {}
}

#[tokio::test]
async fn a_reader_that_stalls_holds_little_and_loses_nothing() {
    let limits = Limits { ring_bytes: 1 << 20, ..Limits::default() };
    let member = Member::start(limits, 1 << 20).await;
    let (mut slow, mut fast) = (member.open().await, member.open().await);
    for stream in [&mut slow, &mut fast] {
        stream.create(all_keys());
        stream.next().await;
    }
    // More than the connection's windows, the queue and the ring take together.
    let value = "x".repeat(10_000);
    let mut last = 1;
    for _ in 0..1000 {
        last = member.put("a", &value);
        assert_eq!(revisions(&fast.next().await.1), [last], "the other stream is not held up");
    }
    assert_eq!(member.hub.stats().lagging, 1);

    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.extend(revisions(&slow.next().await.1));
    }
    assert_eq!(seen, (2..=last).collect::<Vec<_>>());
    member.wait(|stats| stats.lagging == 0).await;
    last = member.put("a", "1");
    assert_eq!(revisions(&slow.next().await.1), [last]);
}

#[tokio::test]
async fn a_reader_that_stalls_too_long_is_canceled() {
    let limits = Limits { ring_bytes: 1 << 20, batch_bytes: 256 << 10, ..Limits::default() };
    let member = Member::start(limits, 1 << 20).await;
    let mut slow = member.open().await;
    slow.create(all_keys());
    slow.next().await;
    let value = "x".repeat(10_000);
    let last = (0..1000).map(|_| member.put("a", &value)).last().unwrap();
    member.wait(|stats| stats.lagging == 1).await;
    member.model.compact(last);
    let mut next = 2;
    loop {
        let (revision, response) = slow.next().await;
        if response.canceled {
            assert_eq!((revision, response.compact_revision), (0, last));
            break;
        }
        for seen in revisions(&response) {
            assert_eq!(seen, next);
            next += 1;
        }
    }
    assert!(next < last);
}

#[tokio::test]
async fn streams_end_with_the_member() {
    let member = Member::start(Limits::default(), 1 << 20).await;
    let mut stream = member.open().await;
    stream.create(all_keys());
    stream.next().await;
    member.hub.close();
    let status = stream.responses.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let mut late = member.open().await;
    assert!(late.responses.next().await.unwrap().is_err());
}
