//! Watchers without end, with keys as long as a request may be.

use std::time::{Duration, Instant};

use harness::Client;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    PutRequest, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{PATIENCE, Victim};

const CONNECTIONS: usize = 10;
const STREAMS: usize = 80;
const WATCHERS: usize = 2;
const KEY_BYTES: usize = 700_000;
const TOO_MANY: &str = "etcdserver: too many requests";

/// A stream of watchers.
struct Watches {
    requests: mpsc::UnboundedSender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watches {
    async fn open(client: &mut Client) -> Result<Watches, Status> {
        let (requests, stream) = mpsc::unbounded_channel();
        let answers = client.watch.watch(UnboundedReceiverStream::new(stream)).await?.into_inner();
        Ok(Watches { requests, answers })
    }

    /// The next answer, which has to come.
    async fn hear(&mut self) -> Result<WatchResponse, Status> {
        let answer = timeout(PATIENCE, self.answers.message()).await.expect("it is answered");
        answer.map(|answer| answer.expect("the stream goes on"))
    }

    async fn create(&mut self, key: Vec<u8>, end: Vec<u8>) -> Result<WatchResponse, Status> {
        let create = WatchCreateRequest { key, range_end: end, ..Default::default() };
        let request_union = Some(RequestUnion::CreateRequest(create));
        // One that has ended says why when it is heard.
        let _ = self.requests.send(WatchRequest { request_union });
        self.hear().await
    }

    async fn create_long(&mut self) -> Result<WatchResponse, Status> {
        self.create(vec![b'w'; KEY_BYTES], vec![b'x'; KEY_BYTES]).await
    }
}

/// What a flood was told: watchers that are, that are not, and streams that were ended.
#[derive(Debug, Default)]
struct Told {
    created: usize,
    refused: usize,
    ended: usize,
}

impl Told {
    fn of(&mut self, answer: Result<WatchResponse, Status>) {
        match answer {
            Ok(answer) if !answer.canceled => self.created += 1,
            Ok(answer) => {
                assert!(answer.created && answer.watch_id == -1, "{answer:?}");
                assert_eq!(answer.cancel_reason, TOO_MANY);
                self.refused += 1;
            }
            Err(status) => {
                assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, TOO_MANY));
                self.ended += 1;
            }
        }
    }
}

/// Many streams of one connection, each of which wants watchers.
async fn flood(endpoint: String) -> (Vec<Watches>, Told) {
    let mut client = Client::connect(&endpoint).await.unwrap();
    let (mut open, mut told) = (Vec::new(), Told::default());
    for _ in 0..STREAMS {
        let mut watches = Watches::open(&mut client).await.unwrap();
        for _ in 0..WATCHERS {
            let answer = watches.create_long().await;
            let has_ended = answer.is_err();
            told.of(answer);
            if has_ended {
                break;
            }
        }
        open.push(watches);
    }
    (open, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_with_long_keys() {
    let victim = Victim::start(&[]);
    let mut client = Client::connect(&victim.node.endpoint()).await.unwrap();
    let mut ordinary = Watches::open(&mut client).await.unwrap();
    assert!(!ordinary.create(b"other".to_vec(), vec![]).await.unwrap().canceled);

    let mut floods = JoinSet::new();
    for _ in 0..CONNECTIONS {
        floods.spawn(flood(victim.node.endpoint()));
    }
    victim.serves().await;
    let mut open = Vec::new();
    for (streams, told) in floods.join_all().await {
        println!("{told:?}");
        assert!(told.refused + told.ended > 0, "a connection gets all it wants: {told:?}");
        open.extend(streams);
    }

    // Who was there before is told what happens.
    victim.serves().await;
    for _ in 0..2 {
        assert_eq!(ordinary.hear().await.unwrap().events.len(), 1);
    }

    drop(open);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut watches = Watches::open(&mut client).await.unwrap();
        if watches.create_long().await.is_ok_and(|answer| !answer.canceled) {
            break;
        }
        assert!(Instant::now() < deadline, "room never comes back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop((ordinary, client));
    victim.recovers("watchers with long keys").await;
}

/// One stream is refused a watcher, and goes on: with those it has, and with one that there is room for.
#[tokio::test]
async fn a_stream_that_is_refused_a_watcher_goes_on() {
    let victim = Victim::start(&[]);
    let mut client = Client::connect(&victim.node.endpoint()).await.unwrap();
    let mut watches = Watches::open(&mut client).await.unwrap();
    assert_eq!(watches.create(b"other".to_vec(), vec![]).await.unwrap().watch_id, 0);
    let mut ids = Vec::new();
    let refused = loop {
        let answer = watches.create_long().await.unwrap();
        if answer.canceled {
            break answer;
        }
        ids.push(answer.watch_id);
    };
    assert_eq!((refused.created, refused.watch_id), (true, -1));
    assert_eq!(refused.cancel_reason, TOO_MANY);
    println!("{} watchers of {} bytes", ids.len(), 2 * KEY_BYTES);

    let put = PutRequest { key: "other".into(), value: "1".into(), ..Default::default() };
    client.kv.put(put).await.unwrap();
    let event = watches.hear().await.unwrap();
    assert_eq!((event.watch_id, event.events.len()), (0, 1));

    let cancel = WatchCancelRequest { watch_id: ids[0] };
    let request_union = Some(RequestUnion::CancelRequest(cancel));
    watches.requests.send(WatchRequest { request_union }).unwrap();
    assert!(watches.hear().await.unwrap().canceled);
    assert!(!watches.create_long().await.unwrap().canceled, "there is room again");
    drop((watches, client));
    victim.recovers("one stream refused").await;
}
