//! Auto-compaction of one member, with a retention that is short enough to wait for.

use std::time::{Duration, Instant};

use harness::{Client, Node, NodeOptions, PATIENCE, Target};
use proto::etcdserverpb::{HashKvRequest, PutRequest, RangeRequest};
use tonic::Code;

const RETENTION: Duration = Duration::from_secs(2);

#[tokio::test]
async fn what_is_older_than_the_retention_goes_by_itself() {
    let options = NodeOptions::new(Target::from_env().unwrap())
        .arg("--auto-compaction-mode=periodic")
        .arg(format!("--auto-compaction-retention={}s", RETENTION.as_secs()));
    let node = Node::start(options).unwrap();
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    let begun = Instant::now();
    let compacted = loop {
        let put = PutRequest { key: b"k".into(), value: b"v".into(), ..Default::default() };
        client.kv.put(put).await.unwrap();
        let hash = client.maintenance.hash_kv(HashKvRequest::default()).await.unwrap();
        if hash.get_ref().compact_revision > 2 {
            break hash.get_ref().compact_revision;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is compacted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // The first one waits for a whole retention, and drops next to nothing; the server may have begun to
    // count before it was ready.
    assert!(begun.elapsed() >= RETENTION, "after {:?}", begun.elapsed());
    let range = |revision| RangeRequest { key: b"k".into(), revision, ..Default::default() };
    let before = client.kv.range(range(compacted - 1)).await.unwrap_err();
    assert_eq!(before.code(), Code::OutOfRange);
    assert_eq!(client.kv.range(range(compacted)).await.unwrap().get_ref().kvs.len(), 1);
}
