//! Watch as its clients rely on it: every change once and in order, however slow they read, over
//! compactions and crashes; and a client that does not read costs nobody else anything.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Client, Node, Target};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    CompactionRequest, PutRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

const WRITERS: usize = 4;
const STREAMS: usize = 50;
const WATCHERS_OF_A_STREAM: usize = 20;
/// How long a reader stalls at least: hundreds of times what a queue lasts, and long enough for
/// checkpoints to move what it has not read from memory into the engine.
/// `KVD_STALL_SECONDS` makes it longer.
const STALL: Duration = Duration::from_secs(10);
/// What a stalled reader leaves unread at least.
const UNREAD_BYTES: usize = 160 << 20;
/// What a member's peak may be higher while a reader stalls: what is unread would not fit. Rows on
/// their way into the engine, now more and now less, make a difference of up to 60 MB by themselves.
const GROWTH_BYTES_MAX: usize = 80 << 20;
const BULK_BYTES: usize = 512 << 10;
/// The last change of a test: who has it has everything.
const END: &str = "w/end";
/// No test needs nearly as long for what it waits for.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// What is compared of a put: its revision, and a hash of the key and how the value starts. Tests
/// write no two values that start the same.
type Change = (i64, u64);

fn change(revision: i64, key: &[u8], value: &[u8]) -> Change {
    let mut hasher = DefaultHasher::new();
    (key, value.len(), &value[..value.len().min(32)]).hash(&mut hasher);
    (revision, hasher.finish())
}

/// Panics at the first difference; everything would be too much to look at.
fn assert_same(seen: &[Change], expected: &[Change], who: &str) {
    let at = seen.iter().zip(expected).position(|(seen, expected)| seen != expected);
    let at = at.unwrap_or(seen.len().min(expected.len()));
    let (got, wanted) = (seen.get(at), expected.get(at));
    assert!(got.is_none() && wanted.is_none(), "{who}: change {at} is {got:?}, not {wanted:?}");
}

async fn put(client: &mut Client, key: &str, value: Vec<u8>) -> Result<Change, Status> {
    let request = PutRequest { key: key.into(), value: value.clone(), ..Default::default() };
    let answer = client.kv.put(request).await?.into_inner();
    let header = answer.header.expect("an answer has a header");
    Ok(change(header.revision, key.as_bytes(), &value))
}

fn on(key: &str, range_end: &str, start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = (key.into(), range_end.into());
    WatchCreateRequest { key, range_end, start_revision, ..Default::default() }
}

fn on_all(start_revision: i64) -> WatchCreateRequest {
    on("\0", "\0", start_revision)
}

/// A stream with its watchers, on a connection of its own. Reads only when it is told to.
struct Reader {
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    /// What each watcher got, by its id.
    seen: Vec<Vec<Change>>,
    created: usize,
    ended: usize,
}

impl Reader {
    /// Returns when all watchers are created.
    async fn open(endpoint: &str, watchers: Vec<WatchCreateRequest>) -> anyhow::Result<Self> {
        let mut client = Client::connect(endpoint).await?;
        let (requests, outgoing) = mpsc::unbounded_channel();
        let seen = vec![Vec::new(); watchers.len()];
        for create in watchers {
            requests.send(create_request(create))?;
        }
        let responses = client.watch.watch(UnboundedReceiverStream::new(outgoing)).await?;
        let responses = responses.into_inner();
        let mut reader = Self { requests, responses, seen, created: 0, ended: 0 };
        while reader.created < reader.seen.len() {
            reader.next().await?;
        }
        Ok(reader)
    }

    /// Takes one response. It is returned when it cancels a watcher.
    async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        let answer = timeout(HANGS_AFTER, self.responses.message()).await;
        let response = answer.expect("the stream goes on")?;
        let response = response.ok_or_else(|| Status::unavailable("the stream has ended"))?;
        Ok(self.take(response))
    }

    fn take(&mut self, response: WatchResponse) -> Option<WatchResponse> {
        if response.canceled {
            return Some(response);
        }
        self.created += usize::from(response.created);
        let seen = &mut self.seen[usize::try_from(response.watch_id).unwrap()];
        for event in response.events {
            let kv = event.kv.unwrap().parse().unwrap();
            self.ended += usize::from(kv.key == END.as_bytes());
            seen.push(change(kv.mod_revision, &kv.key, &kv.value));
        }
        None
    }

    /// Reads until all watchers have everything.
    async fn read_to_end(&mut self) -> Result<(), Status> {
        while self.ended < self.seen.len() {
            let canceled = self.next().await?;
            assert!(canceled.is_none(), "nothing was compacted: {canceled:?}");
        }
        Ok(())
    }

    /// As [`Reader::read_to_end`], but reads nothing while `stalled` says so.
    async fn read_unless(mut self, mut stalled: watch::Receiver<bool>) -> Self {
        while self.ended < self.seen.len() {
            stalled.wait_for(|stalled| !stalled).await.expect("the test goes on");
            tokio::select! {
                _ = stalled.changed() => {}
                canceled = self.next() => assert!(canceled.unwrap().is_none(), "canceled"),
            }
        }
        self
    }
}

fn create_request(create: WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// Writers that go on until they are stopped, or their member is, and how far they are.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    puts: AtomicUsize,
    bulk_bytes: AtomicUsize,
    progress: Notify,
}

impl Load {
    /// Every other put is large, if there is bulk, and outside of the range `w/`.
    fn start(self: &Arc<Self>, node: &Node, bulk: bool) -> Vec<JoinHandle<Vec<Change>>> {
        let writers = (0..WRITERS).map(|writer| {
            let (load, endpoint) = (self.clone(), node.endpoint());
            tokio::spawn(async move { load.write(&endpoint, writer, bulk).await })
        });
        writers.collect()
    }

    async fn write(&self, endpoint: &str, writer: usize, bulk: bool) -> Vec<Change> {
        let mut client = Client::connect(endpoint).await.unwrap();
        let mut written = Vec::new();
        for number in 0.. {
            let large = bulk && number % 2 == 1;
            let mut value = format!("{writer}:{number} ").into_bytes();
            value.resize(if large { BULK_BYTES } else { 64 }, b'.');
            let folder = if large { "bulk" } else { "w" };
            let key = format!("{folder}/{writer}/{}", number % 16);
            match put(&mut client, &key, value).await {
                Ok(change) => written.push(change),
                Err(status) if bulk => panic!("{status}"),
                Err(_) => break,
            }
            self.puts.fetch_add(1, Ordering::Relaxed);
            self.bulk_bytes.fetch_add(if large { BULK_BYTES } else { 0 }, Ordering::Relaxed);
            self.progress.notify_one();
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        written
    }

    async fn progress(&self) {
        timeout(HANGS_AFTER, self.progress.notified()).await.expect("writers get on");
    }

    /// Lets the writers get on for a while. Their puts per second, and the member's peak of memory.
    async fn phase(&self, node: &Node, at_least: Duration) -> (f64, usize) {
        let (puts, bulk) = (self.puts.load(Ordering::Relaxed), &self.bulk_bytes);
        let (begin, enough) = (Instant::now(), bulk.load(Ordering::Relaxed) + UNREAD_BYTES);
        let mut peak = 0;
        while begin.elapsed() < at_least || bulk.load(Ordering::Relaxed) < enough {
            self.progress().await;
            peak = peak.max(resident_bytes(node));
        }
        let puts = self.puts.load(Ordering::Relaxed) - puts;
        (puts as f64 / begin.elapsed().as_secs_f64(), peak)
    }
}

pub(crate) fn resident_bytes(node: &Node) -> usize {
    let path = format!("/proc/{}/status", node.pid().unwrap());
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

async fn all(tasks: Vec<JoinHandle<Vec<Change>>>) -> Vec<Change> {
    let mut changes = Vec::new();
    for task in tasks {
        changes.extend(task.await.unwrap());
    }
    changes.sort_unstable();
    changes
}

fn stall() -> Duration {
    let seconds = std::env::var("KVD_STALL_SECONDS").ok();
    seconds.map_or(STALL, |text| Duration::from_secs(text.parse().expect("a number of seconds")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_holds_up_nobody_and_misses_nothing() {
    let node = Node::start_one(Target::Kvd).unwrap();
    let (switch, stalled) = watch::channel(false);
    let (_never, others) = watch::channel(false);
    let mut readers = Vec::new();
    for stream in 0..STREAMS {
        let mut watchers = vec![on("w/", "w0", 0); WATCHERS_OF_A_STREAM];
        // The first one stalls; the bulk is for it alone.
        let stalled = if stream == 0 {
            watchers.push(on_all(0));
            stalled.clone()
        } else {
            others.clone()
        };
        let reader = Reader::open(&node.endpoint(), watchers).await.unwrap();
        readers.push(tokio::spawn(reader.read_unless(stalled)));
    }
    let load = Arc::new(Load::default());
    let writers = load.start(&node, true);
    let (usual, peak) = load.phase(&node, Duration::ZERO).await;
    switch.send(true).unwrap();
    let (while_stalled, peak_while_stalled) = load.phase(&node, stall()).await;
    let growth = peak_while_stalled.saturating_sub(peak);
    switch.send(false).unwrap();
    load.stop.store(true, Ordering::Relaxed);
    let mut written = all(writers).await;
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    written.push(put(&mut client, END, Vec::new()).await.unwrap());

    let revisions: Vec<i64> = written.iter().map(|change| change.0).collect();
    assert!(revisions.iter().copied().eq(2..2 + written.len() as i64), "one revision a put");
    let mut narrow = None;
    for (stream, reader) in readers.into_iter().enumerate() {
        let reader = reader.await.unwrap();
        for (watcher, seen) in reader.seen.iter().enumerate() {
            let who = format!("watcher {watcher} of stream {stream}");
            if watcher == WATCHERS_OF_A_STREAM {
                assert_same(seen, &written, &who);
                continue;
            }
            assert_same(seen, narrow.get_or_insert_with(|| seen.clone()), &who);
        }
    }
    let narrow = narrow.unwrap();
    assert!(narrow.iter().all(|change| written.binary_search(change).is_ok()));
    let bulk_puts = load.bulk_bytes.load(Ordering::Relaxed) / BULK_BYTES;
    assert_eq!(narrow.len(), written.len() - bulk_puts, "all but the bulk is in the range");
    assert!(while_stalled >= usual / 4.0, "{while_stalled:.0} puts/s, else {usual:.0}");
    assert!(growth < GROWTH_BYTES_MAX, "grown by {} MB for what is unread", growth >> 20);
}

#[tokio::test]
async fn a_stalled_reader_is_told_what_compaction_took() {
    const PUTS: usize = 120;
    const COMPACTED: usize = 100;
    let node = Node::start_one(Target::Kvd).unwrap();
    let mut reader = Reader::open(&node.endpoint(), vec![on_all(0)]).await.unwrap();
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    let mut written = Vec::new();
    // Far more than queues and connections hold, so that what is next to be read is compacted.
    for number in 0..PUTS {
        let mut value = format!("{number} ").into_bytes();
        value.resize(BULK_BYTES, b'.');
        let key = format!("w/{}", number % 7);
        written.push(put(&mut client, &key, value).await.unwrap());
        if number == COMPACTED {
            let request = CompactionRequest { revision: written[number].0, ..Default::default() };
            client.kv.compact(request).await.unwrap();
        }
    }
    written.push(put(&mut client, END, Vec::new()).await.unwrap());
    let canceled = loop {
        if let Some(response) = reader.next().await.unwrap() {
            break response;
        }
        assert_eq!(reader.ended, 0, "not all that is compacted can have been queued");
    };
    let (before, compacted) = (reader.seen[0].len(), written[COMPACTED].0);
    assert_eq!((canceled.compact_revision, canceled.events.len()), (compacted, 0));
    assert_same(&reader.seen[0], &written[..before], "what came before the cancel");
    assert!(before > 0 && written[before].0 < compacted, "the next one was not compacted");
    // On as clients do, from where history still is, on the same stream.
    reader.requests.send(create_request(on_all(compacted))).unwrap();
    reader.seen.push(Vec::new());
    while reader.ended == 0 {
        assert!(reader.next().await.unwrap().is_none(), "nothing else is compacted");
    }
    assert_same(&reader.seen[1], &written[COMPACTED..], "what came after it");
}

/// Follows everything over the member's crashes, always on from the revision seen last. `starts`
/// counts how often the member was started.
async fn follow(endpoint: String, mut starts: watch::Receiver<usize>) -> Vec<Change> {
    let mut seen: Vec<Change> = Vec::new();
    loop {
        starts.borrow_and_update();
        let next = seen.last().map_or(2, |change| change.0 + 1);
        if let Ok(mut reader) = Reader::open(&endpoint, vec![on_all(next)]).await {
            let end = reader.read_to_end().await;
            seen.append(&mut reader.seen[0]);
            if end.is_ok() {
                return seen;
            }
        }
        starts.changed().await.expect("the test goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_go_on_after_a_crash_where_they_were() {
    const CRASHES: usize = 3;
    const FOLLOWERS: usize = 8;
    let mut node = Node::start_one(Target::Kvd).unwrap();
    let (starts, started) = watch::channel(1);
    let followers: Vec<_> =
        (0..FOLLOWERS).map(|_| tokio::spawn(follow(node.endpoint(), started.clone()))).collect();
    let mut answered = Vec::new();
    for crash in 1..=CRASHES {
        let load = Arc::new(Load::default());
        let writers = load.start(&node, false);
        while load.puts.load(Ordering::Relaxed) < 150 * crash {
            load.progress().await;
        }
        node.kill().unwrap();
        answered.extend(all(writers).await);
        node.start_again().unwrap();
        starts.send(1 + crash).unwrap();
    }
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    answered.push(put(&mut client, END, Vec::new()).await.unwrap());
    let mut history = Reader::open(&node.endpoint(), vec![on_all(2)]).await.unwrap();
    history.read_to_end().await.unwrap();
    let history = &history.seen[0];
    assert!(history.iter().map(|change| change.0).eq(2..2 + history.len() as i64));
    let lost = answered.iter().find(|change| history.binary_search(change).is_err());
    assert_eq!(lost, None, "what was answered is in the history");
    for (follower, seen) in all_of(followers).await.iter().enumerate() {
        assert_same(seen, history, &format!("follower {follower}"));
    }
}

async fn all_of(tasks: Vec<JoinHandle<Vec<Change>>>) -> Vec<Vec<Change>> {
    let mut results = Vec::new();
    for task in tasks {
        results.push(timeout(HANGS_AFTER, task).await.expect("followers get on").unwrap());
    }
    results
}
