//! Clients that ask for much and read little of it.

use std::net::TcpStream;
use std::time::Instant;

use harness::Client;
use prost::Message;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest,
};

use super::{PATIENCE, Victim, hang_up, send};
use crate::wire::{DATA, END_STREAM, call, field, frame};

const GRPC: &[u8] = b"\x0f\x10\x10application/grpc";
const WINDOW_UPDATE: u8 = 8;
const VALUE_BYTES: usize = 1 << 20;
const VALUES: usize = 40;

/// A window of this size for each stream: SETTINGS_INITIAL_WINDOW_SIZE.
fn window(bytes: u32) -> Vec<u8> {
    [&[0, 4][..], &bytes.to_be_bytes()].concat()
}

async fn fill(victim: &Victim) -> Client {
    let mut client = Client::connect(&victim.node.endpoint()).await.unwrap();
    for number in 0..VALUES {
        let key = format!("value {number}").into_bytes();
        let value = vec![b'v'; VALUE_BYTES];
        client.kv.put(PutRequest { key, value, ..Default::default() }).await.unwrap();
    }
    client
}

fn everything() -> RangeRequest {
    RangeRequest { key: b"value".to_vec(), range_end: b"values".to_vec(), ..Default::default() }
}

/// Asks on each of so many streams, over connections of ten, and reads nothing.
fn ask(
    victim: &Victim,
    window_bytes: u32,
    count: u32,
    path: &str,
    message: &[u8],
) -> Vec<TcpStream> {
    const STREAMS: u32 = 10;
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0][..], &length, message].concat();
    let fields = [&field(0, 1, "a")[..], GRPC].concat();
    let connection = |_| {
        let mut stream = victim.speak(&window(window_bytes));
        for number in (0..STREAMS).map(|nth| 2 * nth + 1) {
            let data = frame(DATA, END_STREAM, number, &message);
            assert!(send(&mut stream, &[call(number, path, &fields), data].concat()));
        }
        stream
    };
    (0..count / STREAMS).map(connection).collect()
}

/// Somebody else gets all of it in the end, at the cost of those who do not read.
async fn reads_everything(client: &mut Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.kv.range(everything()).await {
            Ok(answer) => {
                assert_eq!(answer.get_ref().kvs.len(), VALUES);
                return;
            }
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
                assert!(Instant::now() < deadline, "it is refused for ever");
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn ranges_that_nobody_reads() {
    let victim = Victim::start(&[]);
    let mut client = fill(&victim).await;
    let range = everything();
    let within_txn = RequestOp { request: Some(Request::RequestRange(range.clone())) };
    let txn = TxnRequest { success: vec![within_txn], ..Default::default() };
    let put = PutRequest { key: "put".into(), ..Default::default() };
    let put = RequestOp { request: Some(Request::RequestPut(put)) };
    let writing = TxnRequest { success: [&txn.success[..], &[put]].concat(), ..Default::default() };
    let calls = [
        ("/etcdserverpb.KV/Range", 100, range.encode_to_vec()),
        ("/etcdserverpb.KV/Txn", 100, txn.encode_to_vec()),
        // One after the other, before what others write.
        ("/etcdserverpb.KV/Txn", 30, writing.encode_to_vec()),
    ];
    for window_bytes in [0, 1, 100_000] {
        for (path, count, message) in &calls {
            let streams = ask(&victim, window_bytes, *count, path, message);
            victim.serves().await;
            reads_everything(&mut client).await;
            hang_up(streams);
        }
    }
    victim.recovers("ranges unread").await;
}

/// Windows as large as they get, on streams without number: all that holds the answers up is that
/// nobody reads what the socket has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn medium_ranges_on_many_streams_that_nobody_reads() {
    const STREAMS: u32 = 3000;
    const CONNECTIONS: u32 = 4;
    let victim = Victim::start(&[]);
    let mut client = Client::connect(&victim.node.endpoint()).await.unwrap();
    let value = vec![b'v'; 300 << 10];
    let put = PutRequest { key: b"medium".to_vec(), value, ..Default::default() };
    client.kv.put(put).await.unwrap();
    let range = RangeRequest { key: b"medium".to_vec(), ..Default::default() }.encode_to_vec();
    let length = u32::try_from(range.len()).unwrap().to_be_bytes();
    let message = [&[0][..], &length, &range].concat();
    let fields = [&field(0, 1, "a")[..], GRPC].concat();
    let asking: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = victim.speak(&window(i32::MAX as u32));
            let more = (i32::MAX as u32 - u32::from(u16::MAX)).to_be_bytes();
            assert!(send(&mut stream, &frame(WINDOW_UPDATE, 0, 0, &more)));
            stream
        })
        .collect();
    // Bit by bit, so that each finds room for its answer.
    for number in (0..STREAMS).map(|nth| 2 * nth + 1) {
        for mut stream in &asking {
            let data = frame(DATA, END_STREAM, number, &message);
            let call = call(number, "/etcdserverpb.KV/Range", &fields);
            assert!(send(&mut stream, &[call, data].concat()));
        }
    }
    victim.serves().await;
    let range = RangeRequest { key: b"medium".to_vec(), ..Default::default() };
    let deadline = Instant::now() + PATIENCE;
    while let Err(status) = client.kv.range(range.clone()).await {
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
        assert!(Instant::now() < deadline, "it is refused for ever");
    }
    hang_up(asking);
    victim.recovers("medium ranges unread").await;
}

#[tokio::test]
async fn leases_that_nobody_reads() {
    const KEYS: usize = 400;
    const KEY_BYTES: usize = 100 << 10;
    let victim = Victim::start(&[]);
    let mut client = Client::connect(&victim.node.endpoint()).await.unwrap();
    let grant = LeaseGrantRequest { ttl: 3600, id: 7 };
    client.lease.lease_grant(grant).await.unwrap();
    for number in 0..KEYS {
        let mut key = format!("{number}/").into_bytes();
        key.resize(KEY_BYTES, b'k');
        client.kv.put(PutRequest { key, lease: 7, ..Default::default() }).await.unwrap();
    }
    let question = LeaseTimeToLiveRequest { id: 7, keys: true };
    for window_bytes in [0, 100_000] {
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let streams = ask(&victim, window_bytes, 100, path, &question.encode_to_vec());
        victim.serves().await;
        hang_up(streams);
    }
    let mut client = client.lease.max_decoding_message_size(usize::MAX);
    let deadline = Instant::now() + PATIENCE;
    let told = loop {
        match client.lease_time_to_live(question).await {
            Ok(told) => break told.into_inner(),
            // What they left is not all gone.
            Err(status) => assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}"),
        }
        assert!(Instant::now() < deadline, "it is refused for ever");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(told.keys.len(), KEYS);
    victim.recovers("leases unread").await;
}

#[tokio::test]
async fn streams_of_a_range_that_nobody_reads() {
    let victim = Victim::start(&[]);
    let mut client = fill(&victim).await;
    for window_bytes in [1, 100_000] {
        let range = everything().encode_to_vec();
        let streams = ask(&victim, window_bytes, 100, "/etcdserverpb.KV/RangeStream", &range);
        victim.serves().await;
        reads_everything(&mut client).await;
        hang_up(streams);
    }
    victim.recovers("range streams unread").await;
}

#[tokio::test]
async fn snapshots_that_nobody_reads() {
    let victim = Victim::start(&[]);
    fill(&victim).await;
    let streams = ask(&victim, 1, 50, "/etcdserverpb.Maintenance/Snapshot", &[]);
    victim.serves().await;
    hang_up(streams);
    victim.recovers("snapshots unread").await;
}

#[tokio::test]
async fn watches_that_nobody_reads() {
    let victim = Victim::start(&[]);
    let create = WatchCreateRequest {
        key: b"value".to_vec(),
        range_end: b"values".to_vec(),
        prev_kv: true,
        start_revision: 1,
        ..Default::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let message = request.encode_to_vec();
    let streams = ask(&victim, 100, 200, "/etcdserverpb.Watch/Watch", &message);
    let mut client = fill(&victim).await;
    fill(&victim).await;
    victim.serves().await;
    reads_everything(&mut client).await;
    hang_up(streams);
    victim.recovers("watches unread").await;
}
