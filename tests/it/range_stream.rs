//! RangeStream: the chunks put together are the answer of Range. etcd has it since 3.7, so there
//! is no recording to compare with; the rules are those of its documentation and source.

use harness::text::{self, Ids};
use harness::{Client, Node, Target};
use proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, RangeResponse};
use tonic::{Code, Status};

/// What RangeStream sends first at most.
const FIRST_CHUNK_KEYS_MAX: usize = 10;

fn everything() -> RangeRequest {
    RangeRequest { key: b"k".to_vec(), range_end: b"l".to_vec(), ..Default::default() }
}

async fn chunks(client: &mut Client, request: RangeRequest) -> Result<Vec<RangeResponse>, Status> {
    let mut stream = client.kv.range_stream(request).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(message) = stream.message().await? {
        chunks.push(message.range_response.expect("a chunk has a response"));
    }
    Ok(chunks)
}

/// A store with small and large pairs, the older half of them changed since.
async fn filled() -> (Node, Client) {
    let node = Node::start_one(Target::Kvd).unwrap();
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    for index in 0..600_usize {
        // Every hundredth is large, so that chunks have to shrink again.
        let size = if index % 100 == 99 { 400_000 } else { index };
        let key = format!("k{:03}", index % 400).into_bytes();
        let request = PutRequest { key, value: vec![b'x'; size], ..Default::default() };
        client.kv.put(request).await.unwrap();
    }
    (node, client)
}

#[tokio::test]
async fn chunks_put_together_are_the_answer_of_range() {
    let (_node, mut client) = filled().await;
    let cases = [
        everything(),
        RangeRequest { limit: 1, ..everything() },
        RangeRequest { limit: 10, ..everything() },
        RangeRequest { limit: 11, ..everything() },
        RangeRequest { limit: 137, ..everything() },
        RangeRequest { limit: 400, ..everything() },
        RangeRequest { limit: -1, ..everything() },
        RangeRequest { revision: 300, ..everything() },
        RangeRequest { revision: 300, limit: 50, ..everything() },
        RangeRequest { keys_only: true, ..everything() },
        RangeRequest { count_only: true, ..everything() },
        RangeRequest { count_only: true, limit: 3, ..everything() },
        RangeRequest { serializable: true, ..everything() },
        RangeRequest { sort_order: 1, ..everything() },
        RangeRequest { range_end: b"\0".to_vec(), ..everything() },
        RangeRequest { range_end: Vec::new(), ..everything() },
        RangeRequest { key: b"k007".to_vec(), range_end: Vec::new(), ..everything() },
        RangeRequest { key: b"x".to_vec(), range_end: b"y".to_vec(), ..everything() },
        RangeRequest { key: b"l".to_vec(), range_end: b"k".to_vec(), ..everything() },
    ];
    for request in cases {
        let expected = client.kv.range(request.clone()).await.unwrap().into_inner();
        let chunks = chunks(&mut client, request.clone()).await.unwrap();
        let (last, others) = chunks.split_last().expect("there is a last chunk");
        assert!(chunks[0].kvs.len() <= FIRST_CHUNK_KEYS_MAX, "{request:?}");
        for chunk in others {
            let extra = (chunk.header.is_some(), chunk.more, chunk.count);
            assert_eq!(extra, (false, false, 0), "only the last chunk has them: {request:?}");
            assert!(!chunk.kvs.is_empty(), "no chunk is empty: {request:?}");
        }
        let together = RangeResponse {
            kvs: chunks.iter().flat_map(|chunk| chunk.kvs.clone()).collect(),
            ..last.clone()
        };
        let ids = Ids::default();
        assert_eq!(text::range(&together, &ids), text::range(&expected, &ids), "{request:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_streamed_is_refused() {
    let (_node, mut client) = filled().await;
    let compaction = CompactionRequest { revision: 100, physical: false };
    client.kv.compact(compaction).await.unwrap();
    let sorts = "RangeStream does not support custom sort orders";
    let filters = "RangeStream does not support revision filters";
    let cases = [
        (RangeRequest { sort_order: 2, ..everything() }, Code::Unimplemented, sorts),
        (
            RangeRequest { sort_order: 1, sort_target: 3, ..everything() },
            Code::Unimplemented,
            sorts,
        ),
        (RangeRequest { min_mod_revision: 5, ..everything() }, Code::Unimplemented, filters),
        (RangeRequest { max_create_revision: 5, ..everything() }, Code::Unimplemented, filters),
        (
            RangeRequest { key: Vec::new(), ..everything() },
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        ),
        (
            RangeRequest { sort_order: 9, ..everything() },
            Code::InvalidArgument,
            "etcdserver: invalid sort option",
        ),
        (
            RangeRequest { revision: 99, ..everything() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            RangeRequest { revision: 1000, ..everything() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
    ];
    for (request, code, message) in cases {
        let status = chunks(&mut client, request.clone()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, message), "{request:?}");
    }
}
