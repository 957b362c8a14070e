//! Bytes that are no HTTP/2, no gRPC, no message, or far too much of either.

use std::io::Write as _;
use std::net::Shutdown;

use harness::Client;
use prost::Message as _;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use tonic::Code;

use super::{Victim, has_goaway, send, wait_closed};
use crate::wire::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, Wire, call, field, frame,
};

const CONTINUATION: u8 = 9;
const GRPC: &[u8] = b"\x0f\x10\x10application/grpc";

/// Headers that go on and on: in frames without an end, and in small ones that are remembered.
#[tokio::test]
async fn headers_without_end() {
    let victim = Victim::start(&[]);
    let long = [&[0, 1][..], b"x", &[0x7f, 0xff, 0x00], &[b'v'; 254]].concat();
    let block: Vec<u8> = long.iter().copied().cycle().take(16_000).collect();
    for flags in [0, END_HEADERS] {
        for _ in 0..20 {
            let mut stream = victim.speak(&[]);
            let first = frame(HEADERS, flags, 1, &block);
            let more = |nth: u32| match flags {
                0 => frame(CONTINUATION, 0, 1, &block),
                _ => frame(HEADERS, END_HEADERS, 2 * nth + 3, &block),
            };
            let _ = send(&mut stream, &first) && (0..2000).all(|nth| send(&mut stream, &more(nth)));
            let _ = stream.shutdown(Shutdown::Write);
            let said = wait_closed(stream);
            // One that is reset may have lost what it was told last.
            assert!(said.is_empty() || has_goaway(&said) || flags != 0, "it was taken");
        }
    }
    victim.recovers("headers without end").await;
}

#[tokio::test]
async fn bytes_that_are_no_frames() {
    let victim = Victim::start(&[]);
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..300 {
        let mut stream = victim.connect();
        let mut noise = vec![0; 5_000];
        random.fill_bytes(&mut noise);
        if round % 3 == 0 {
            // Small frames of all kinds, on small streams, that hold anything.
            for header in noise.chunks_exact_mut(29) {
                let (kind, flags, stream) = (header[3] % 11, header[4], header[8] % 9);
                header[..9].copy_from_slice(&[0, 0, 20, kind, flags, 0, 0, 0, stream]);
            }
        }
        if round % 2 == 0 {
            assert!(send(&mut stream, &[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()));
        }
        // It may be cut off in the middle.
        let _ = stream.write_all(&noise);
        let _ = stream.shutdown(Shutdown::Write);
        wait_closed(stream);
    }
    victim.recovers("noise").await;
}

#[tokio::test]
async fn frames_that_are_too_large_end_their_connection() {
    let victim = Victim::start(&[]);
    for kind in [DATA, HEADERS, SETTINGS, CONTINUATION, 0xee] {
        let mut stream = victim.speak(&[]);
        let header = [&[0xff, 0xff, 0xff, kind, 0][..], &1_u32.to_be_bytes()].concat();
        assert!(send(&mut stream, &header));
        assert!(has_goaway(&wait_closed(stream)), "{kind}");
    }
    victim.recovers("frames too large").await;
}

/// A transaction in a transaction, and so on: deeper than any message may be.
fn nested(levels: usize) -> Vec<u8> {
    let part = |tag: u8, inner: &[u8]| {
        let mut bytes = vec![tag];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        [&bytes, inner].concat()
    };
    // TxnRequest.success, and RequestOp.request_txn in it.
    (0..levels).fold(Vec::new(), |inner, _| part(0x12, &part(0x22, &inner)))
}

#[tokio::test]
async fn messages_that_are_none() {
    let victim = Victim::start(&[]);
    let mut wire = Wire::connect(&victim.node);
    let fields = [&field(0, 1, "a")[..], GRPC].concat();
    let messages = [
        ("/etcdserverpb.KV/Txn", nested(60)),
        ("/etcdserverpb.KV/Txn", nested(3_000)),
        ("/etcdserverpb.KV/Range", vec![0xff; 2_000]),
        ("/etcdserverpb.KV/Put", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("/etcdserverpb.KV/RangeStream", vec![0xff; 2_000]),
        ("/etcdserverpb.Lease/LeaseGrant", vec![0x08; 999]),
        ("/etcdserverpb.Watch/Watch", vec![0x0a, 0x03, 0x0a, 0x7f]),
        ("/etcdserverpb.Maintenance/Status", vec![0x0b; 5_000]),
        ("/etcdserverpb.Maintenance/Snapshot", vec![0x0b; 5_000]),
    ];
    for (nth, (path, message)) in (0..).zip(messages) {
        let stream = 2 * nth + 1;
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let message = [&[0][..], &length, &message].concat();
        let mut bytes = call(stream, path, &fields);
        for part in message.chunks(16_000) {
            bytes.extend(frame(DATA, 0, stream, part));
        }
        bytes.extend(frame(DATA, END_STREAM, stream, &[]));
        wire.send(&bytes);
        loop {
            let frame = wire.receive();
            if frame.stream == stream && frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
                break;
            }
            assert!(frame.kind != DATA || frame.stream != stream, "{path} was answered: {frame:?}");
        }
    }
    victim.recovers("messages that are none").await;
}

#[tokio::test]
async fn numbers_that_are_as_large_as_numbers_get() {
    let victim = Victim::start(&[]);
    let mut client = Client::connect(&victim.node.endpoint()).await.unwrap();
    let put = PutRequest { key: "a".into(), lease: i64::MIN, ..Default::default() };
    assert_eq!(client.kv.put(put).await.unwrap_err().code(), Code::NotFound);
    for limit in [i64::MAX, i64::MIN] {
        let range = RangeRequest {
            key: vec![0],
            range_end: vec![0],
            limit,
            sort_order: 2,
            sort_target: 3,
            min_mod_revision: i64::MIN,
            max_mod_revision: i64::MAX,
            ..Default::default()
        };
        client.kv.range(range.clone()).await.unwrap();
        let past = RangeRequest { revision: limit, ..range };
        let _ = client.kv.range(past).await;
    }
    for number in [i64::MIN, -1, i64::MAX] {
        let create = WatchCreateRequest {
            key: vec![0],
            range_end: vec![0],
            start_revision: number,
            watch_id: number,
            filters: vec![i32::MAX, i32::MIN],
            ..Default::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        assert!(request.encoded_len() > 10);
        let mut answers =
            client.watch.watch(tokio_stream::iter([request])).await.unwrap().into_inner();
        assert!(answers.message().await.is_ok());
    }
    victim.recovers("large numbers").await;
}
