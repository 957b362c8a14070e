//! Random histories, streams and readers against the model: every watcher sees exactly its events.
//!
//! Tasks are polled only when they were woken, so a lost wake-up shows as a missing event.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;
use proptest::sample::Index;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use proto::mvccpb::Event;
use store::mvcc::ChangeEvent;

use super::model::{Change, Model};
use crate::watch::watcher::Spec;
use crate::watch::{HistorySource, Hub, Lane, Limits, Stats, Subscription};

/// Small enough that queues fill, the ring forgets, and catching up takes several batches.
const LIMITS: Limits = Limits {
    ring_bytes: 2500,
    queue_responses: 3,
    queue_bytes: 2000,
    batch_revisions: 4,
    batch_bytes: 900,
    lane_bytes: 4000,
    crowded_bytes: 400,
    step_revisions: 2,
    step_bytes: 300,
    progress_interval: std::time::Duration::from_secs(3600),
};

#[derive(Clone, Debug)]
enum Op {
    /// Applies a run of transactions, which the hub has not heard of.
    Apply(Vec<Vec<Change>>),
    Publish,
    /// A snapshot is installed: what was applied is never published.
    Jump,
    Compact(Index),
    /// The lane's task has its turn, if it was woken.
    Advance,
    Open,
    Create(Index, WatchCreateRequest, Start),
    Cancel(Index, i64),
    Progress(Index),
    Tick(Index),
    /// The client reads responses.
    Read(Index, usize),
    Drop(Index),
}

#[derive(Clone, Debug)]
enum Start {
    Now,
    Anywhere(Index),
    Future(i64),
    Negative,
}

fn key() -> impl Strategy<Value = String> {
    "[ab]{1,2}"
}

fn change() -> impl Strategy<Value = Change> {
    (key(), prop::option::weighted(0.7, "[xy]{1,40}"))
}

fn create() -> impl Strategy<Value = WatchCreateRequest> {
    let end = prop_oneof![Just(String::new()), Just("\0".into()), key()];
    let filters = prop::collection::vec(0..2, 0..2);
    (key(), end, filters, any::<[bool; 2]>(), prop_oneof![Just(0), 0..4i64]).prop_map(
        |(key, end, filters, [prev_kv, progress_notify], watch_id)| WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            filters,
            prev_kv,
            progress_notify,
            watch_id,
            ..Default::default()
        },
    )
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        3 => Just(Start::Now),
        4 => any::<Index>().prop_map(Start::Anywhere),
        1 => (1..6i64).prop_map(Start::Future),
        1 => Just(Start::Negative),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let txn = || prop::collection::vec(change(), 1..4);
    let stream = any::<Index>;
    prop_oneof![
        10 => prop::collection::vec(txn(), 1..6).prop_map(Op::Apply),
        8 => Just(Op::Publish),
        1 => Just(Op::Jump),
        2 => any::<Index>().prop_map(Op::Compact),
        8 => Just(Op::Advance),
        2 => Just(Op::Open),
        6 => (stream(), create(), start()).prop_map(|(at, create, start)| Op::Create(at, create, start)),
        2 => (stream(), 0..5i64).prop_map(|(at, id)| Op::Cancel(at, id)),
        3 => stream().prop_map(Op::Progress),
        2 => stream().prop_map(Op::Tick),
        10 => (stream(), 1..8usize).prop_map(|(at, count)| Op::Read(at, count)),
        1 => stream().prop_map(Op::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn every_watcher_sees_exactly_its_events(ops in prop::collection::vec(op(), 1..150)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _context = runtime.enter();
        let mut world = World::new();
        ops.into_iter().for_each(|op| world.run(op));
        world.finish();
    }
}

/// Whether a task may be polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Woken {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

struct World {
    model: Arc<Model>,
    hub: Arc<Hub>,
    lane: Arc<Lane>,
    task: Pin<Box<dyn Future<Output = ()>>>,
    task_woken: Arc<Woken>,
    clients: Vec<Client>,
    published: i64,
}

impl World {
    fn new() -> Self {
        let model = Arc::new(Model::default());
        let hub = Hub::new(model.clone(), LIMITS, Box::new(|fatal| panic!("{fatal}")));
        let lane = hub.lane();
        let task = Box::pin(lane.clone().run());
        let clients = Vec::new();
        Self { model, hub, lane, task, task_woken: Woken::new(), clients, published: 1 }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Apply(run) => run.iter().for_each(|txn| drop(self.model.apply(txn))),
            Op::Publish => self.publish(),
            Op::Jump => {
                self.published = self.model.revision();
                self.hub.jump(self.published);
            }
            Op::Compact(at) => {
                let from = self.model.compacted().max(1);
                let revisions = (self.model.revision() - from) as usize;
                if revisions > 0 {
                    self.model.compact(from + 1 + at.index(revisions) as i64);
                }
            }
            Op::Advance => self.advance(),
            Op::Open => self.clients.push(Client::new(&self.lane)),
            Op::Create(at, mut request, start) => {
                let revision = self.model.revision();
                request.start_revision = match start {
                    Start::Now => 0,
                    Start::Anywhere(at) => 1 + at.index(revision as usize) as i64,
                    Start::Future(by) => revision + by,
                    Start::Negative => -1,
                };
                self.with(at, |client, model| client.create(model, request));
            }
            Op::Cancel(at, id) => self.with(at, |client, _| client.cancel(id)),
            Op::Progress(at) => self.with(at, |client, _| client.progress()),
            Op::Tick(at) => {
                let lane = self.lane.clone();
                self.with(at, |client, _| lane.state().tick(client.subscription.stream()));
            }
            Op::Read(at, count) => self.with(at, |client, model| client.read(model, count)),
            Op::Drop(at) => {
                if !self.clients.is_empty() {
                    self.clients.swap_remove(at.index(self.clients.len()));
                }
            }
        }
    }

    fn with(&mut self, at: Index, act: impl FnOnce(&mut Client, &Model)) {
        if !self.clients.is_empty() {
            let at = at.index(self.clients.len());
            act(&mut self.clients[at], &self.model);
        }
    }

    fn publish(&mut self) {
        let mut run = self.model.all();
        run.retain(|revision| revision.main > self.published);
        self.published = self.model.revision();
        self.hub.publish(run);
    }

    fn advance(&mut self) {
        if self.task_woken.take() {
            let waker = Waker::from(self.task_woken.clone());
            let poll = self.task.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(poll.is_pending(), "the lane runs until the hub closes");
        }
    }

    /// Everybody reads all there is, and then has seen all there was.
    fn finish(&mut self) {
        self.publish();
        self.settle();
        let revision = self.model.revision();
        for client in &mut self.clients {
            assert!(client.answers.is_empty(), "unanswered: {:?}", client.answers);
            for expected in client.watchers.values() {
                let missed = expected.wanted(&self.model, revision);
                assert!(missed.is_empty(), "{expected:?} missed {missed:?}");
            }
            client.told = None;
            client.progress();
            client.read(&self.model, usize::MAX);
            let all_started =
                client.watchers.values().all(|watcher| watcher.spec.start <= revision);
            let told = (!client.watchers.is_empty() && all_started).then_some(revision);
            assert_eq!(client.told, told, "progress is told when all have started and are synced");
        }
        let watchers = self.clients.iter().map(|client| client.watchers.len()).sum();
        let stats = self.hub.stats();
        assert_eq!(
            stats,
            Stats { streams: self.clients.len(), watchers, lagging: 0, events: stats.events }
        );
        self.clients.clear();
        assert_eq!(self.hub.stats(), Stats { events: stats.events, ..Default::default() });
        assert_eq!(self.lane.state().held, 0);
    }

    fn settle(&mut self) {
        while self.is_anybody_woken() {
            self.advance();
            for client in &mut self.clients {
                client.read(&self.model, usize::MAX);
            }
        }
    }

    fn is_anybody_woken(&self) -> bool {
        let clients = self.clients.iter().map(|client| &client.woken);
        clients.chain([&self.task_woken]).any(|woken| woken.0.load(Ordering::SeqCst))
    }
}

/// A stream, and what its responses must be.
struct Client {
    subscription: Subscription,
    woken: Arc<Woken>,
    /// Ids the server has in use.
    ids: Vec<i64>,
    next_id: i64,
    /// Answers to requests, in order. Other responses may come between.
    answers: VecDeque<(WatchResponse, Option<Expected>)>,
    watchers: BTreeMap<i64, Expected>,
    told: Option<i64>,
}

/// A created watcher, of which everything before `next` was seen.
#[derive(Debug)]
struct Expected {
    spec: Spec,
    next: i64,
}

impl Expected {
    /// Wanted changes that were not seen, up to a revision.
    fn wanted(&self, model: &Model, last: i64) -> Vec<(i64, ChangeEvent)> {
        let mut wanted = Vec::new();
        for revision in model.all() {
            if (self.next..=last).contains(&revision.main) {
                let changes = revision.events.iter().filter(|change| {
                    self.spec.wants(change.kind) && self.spec.span.contains(&change.key)
                });
                wanted.extend(changes.map(|change| (revision.main, change.clone())));
            }
        }
        wanted
    }
}

impl Client {
    fn new(lane: &Arc<Lane>) -> Self {
        Self {
            subscription: lane.subscribe(),
            woken: Woken::new(),
            ids: Vec::new(),
            next_id: 0,
            answers: VecDeque::new(),
            watchers: BTreeMap::new(),
            told: None,
        }
    }

    fn request(&mut self, request: RequestUnion) {
        self.subscription.handle(WatchRequest { request_union: Some(request) });
        // A request arrives by the stream being polled.
        self.woken.0.store(true, Ordering::SeqCst);
    }

    fn create(&mut self, model: &Model, request: WatchCreateRequest) {
        let revision = model.revision();
        let spec = Spec::new(request.clone());
        let refused = if request.start_revision < 0 {
            Some("etcdserver: mvcc: required revision has been compacted")
        } else if spec.is_none() {
            Some("mvcc: watcher range is empty")
        } else if request.watch_id != 0 && self.ids.contains(&request.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else {
            None
        };
        let mut answer = WatchResponse { watch_id: -1, created: true, ..Default::default() };
        answer.header.get_or_insert_default().revision = revision;
        let mut expected = None;
        if let Some(reason) = refused {
            answer.canceled = true;
            answer.cancel_reason = reason.into();
        } else {
            answer.watch_id = self.id(request.watch_id);
            self.ids.push(answer.watch_id);
            let next =
                if request.start_revision == 0 { revision + 1 } else { request.start_revision };
            expected = spec.map(|spec| Expected { spec, next });
        }
        self.answers.push_back((answer, expected));
        self.request(RequestUnion::CreateRequest(request));
    }

    fn id(&mut self, wanted: i64) -> i64 {
        if wanted != 0 {
            return wanted;
        }
        while self.ids.contains(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn cancel(&mut self, watch_id: i64) {
        if self.ids.contains(&watch_id) {
            self.ids.retain(|id| *id != watch_id);
            let answer = WatchResponse { watch_id, canceled: true, ..Default::default() };
            self.answers.push_back((answer, None));
        }
        self.request(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    fn progress(&mut self) {
        self.request(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    fn read(&mut self, model: &Model, responses: usize) {
        for _ in 0..responses {
            if !self.woken.take() {
                return;
            }
            let waker = Waker::from(self.woken.clone());
            match self.subscription.poll_response(&mut Context::from_waker(&waker)) {
                Poll::Ready(outgoing) => {
                    let outgoing = outgoing.expect("the hub is not closed");
                    self.receive(model, outgoing.response);
                    self.woken.0.store(true, Ordering::SeqCst);
                }
                Poll::Pending => {}
            }
        }
    }

    fn receive(&mut self, model: &Model, mut response: WatchResponse) {
        let revision = response.header.unwrap().revision;
        if response.compact_revision != 0 {
            self.receive_compacted(model, &response);
        } else if response.created || response.canceled {
            let (answer, expected) = self.answers.pop_front().expect("an answer to a request");
            if !response.created {
                assert!(revision <= model.revision());
                self.watchers.remove(&response.watch_id);
                response.header = None;
            }
            assert_eq!(response, answer);
            if let Some(expected) = expected {
                let existing = self.watchers.insert(response.watch_id, expected);
                assert!(existing.is_none());
            }
        } else if response.events.is_empty() {
            self.receive_progress(model, response.watch_id, revision);
        } else {
            let watcher = self.watchers.get_mut(&response.watch_id).expect("after it was created");
            watcher.receive(model, revision, &response.events);
        }
    }

    fn receive_compacted(&mut self, model: &Model, response: &WatchResponse) {
        let watcher = self.watchers.remove(&response.watch_id).expect("after it was created");
        let expected = WatchResponse {
            header: Some(Default::default()),
            watch_id: response.watch_id,
            canceled: true,
            compact_revision: model.compacted(),
            ..Default::default()
        };
        assert_eq!(*response, expected);
        assert!(watcher.next < model.compacted(), "{watcher:?} needs nothing that is gone");
    }

    fn receive_progress(&mut self, model: &Model, watch_id: i64, revision: i64) {
        let concerned = |id: &i64| watch_id == -1 || *id == watch_id;
        let mut any = false;
        for (_, watcher) in self.watchers.iter_mut().filter(|(id, _)| concerned(id)) {
            any = true;
            assert!(watch_id == -1 || watcher.spec.progress);
            assert!(watcher.spec.start <= revision, "{watcher:?} has not started at {revision}");
            let missed = watcher.wanted(model, revision);
            assert!(missed.is_empty(), "{watcher:?} told {revision}, missed {missed:?}");
            assert!(watcher.next <= revision + 1, "{watcher:?} goes back to {revision}");
            watcher.next = revision + 1;
        }
        assert!(any);
        if watch_id == -1 {
            self.told = Some(revision);
        }
    }
}

impl Expected {
    fn receive(&mut self, model: &Model, revision: i64, events: &[Event]) {
        let mod_revision = |event: &Event| event.kv.as_ref().unwrap().parse().unwrap().mod_revision;
        let last = mod_revision(events.last().unwrap());
        assert!(last <= revision && revision <= model.revision());
        // All of the last revision too: a revision is never split.
        let wanted = self.wanted(model, last);
        assert_eq!(events.len(), wanted.len(), "{self:?} got {events:?}, not {wanted:?}");
        for (event, (main, change)) in events.iter().zip(wanted) {
            assert_eq!(event.r#type, change.kind as i32);
            assert_eq!(event.kv.as_ref(), Some(&change.kv));
            let previous = change.previous.filter(|_| self.spec.prev_kv);
            let previous = previous.map(|at| model.row(at).unwrap().unwrap());
            // It may have been there when the event was put into the queue.
            if event.prev_kv.is_some() || main > model.compacted() {
                assert_eq!(event.prev_kv, previous, "{self:?} at {main}");
            }
        }
        self.next = last + 1;
    }
}

#[test]
fn a_stream_that_ends_takes_its_lagging_watchers_with_it() {
    let mut world = World::new();
    let all = WatchCreateRequest { key: "a".into(), range_end: "\0".into(), ..Default::default() };
    world.run(Op::Open);
    world.run(Op::Open);
    let (mut ends, mut stays) = (world.clients.remove(0), world.clients.remove(0));
    for client in [&mut ends, &mut stays] {
        // As many as the queue has room for after the answers were read, and more.
        for _ in 0..2 * LIMITS.queue_responses {
            client.create(&world.model, all.clone());
            client.read(&world.model, usize::MAX);
        }
    }
    let change = vec![vec![("a".into(), Some("x".into()))]];
    world.run(Op::Apply(change));
    world.run(Op::Publish);
    world.advance();
    let before = world.hub.stats();
    let watchers = 2 * LIMITS.queue_responses;
    assert_eq!((before.streams, before.watchers), (2, 2 * watchers));
    assert_eq!(before.lagging, 2 * (watchers - LIMITS.queue_responses));

    drop(ends);
    let after = world.hub.stats();
    assert_eq!((after.streams, after.watchers), (1, watchers));
    assert_eq!(after.lagging, watchers - LIMITS.queue_responses);
    assert_eq!(world.lane.state().watchers.len(), watchers);
    // And the other has lost nothing by it.
    world.clients.push(stays);
    world.finish();
}

#[test]
fn filters_are_etcds() {
    let filters = vec![FilterType::Noput as i32, 77];
    let spec = Spec::new(WatchCreateRequest { filters, ..Default::default() }).unwrap();
    assert!(!spec.puts && spec.deletes);
}
