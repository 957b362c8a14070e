//! What is refused before it gets into the log, at whichever member a client asks.

use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{DeleteRangeRequest, RequestOp, TxnRequest};
use tokio::task::JoinSet;
use tonic::Code;

use super::*;

/// A put inside of so many transactions.
fn nested(levels: usize) -> TxnRequest {
    let put = PutRequest { key: b"deep".into(), value: b"value".into(), ..PutRequest::default() };
    let txn =
        |op| TxnRequest { success: vec![RequestOp { request: Some(op) }], ..TxnRequest::default() };
    (1..levels).fold(txn(Op::RequestPut(put)), |inner, _| txn(Op::RequestTxn(inner)))
}

/// A command that is logged must be readable, or no member could ever start again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_too_deep_to_be_logged_is_refused() {
    let target = Target::from_env().unwrap();
    if target == Target::Etcd {
        return;
    }
    let mut cluster = Cluster::start(target, 1).unwrap_or_else(|error| panic!("{error:#}"));
    let mut client = cluster.client(0).await.unwrap();
    let mut passed = 0;
    for levels in 1..=60 {
        match client.kv.txn(nested(levels)).await {
            Ok(_) => passed = levels,
            // From some depth on the request itself cannot be decoded.
            Err(status) => assert!(matches!(status.code(), Code::InvalidArgument | Code::Internal)),
        }
    }
    assert!(passed > 40, "{passed}");
    put(&cluster, 0, "a", "1").await;
    cluster.kill(0).unwrap();
    cluster.start_again(0).unwrap();
    assert_eq!(get(&cluster, 0, "deep").await, Some("value".to_owned()));
}

/// What waits for the log is bounded; those who gave up do not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_clients_gave_up_make_room_again() {
    const WRITES: usize = 80;
    let large = |number| {
        let (key, value) = (format!("large/{number}").into(), vec![1; 1 << 20]);
        PutRequest { key, value, ..PutRequest::default() }
    };
    let target = Target::from_env().unwrap();
    if target == Target::Etcd {
        return;
    }
    let mut cluster = start();
    let place = cluster.leader().await.unwrap();
    let others = [(place + 1) % 3, (place + 2) % 3];
    others.iter().for_each(|other| cluster.kill(*other).unwrap());
    let client = cluster.client(place).await.unwrap();
    let mut writes = JoinSet::new();
    for number in 0..WRITES {
        let mut request = Request::new(large(number));
        request.set_timeout(5 * ELECTION_TIMEOUT);
        let mut client = client.clone();
        writes.spawn(async move { client.kv.put(request).await.unwrap_err() });
    }
    // More than may wait at a time.
    let answers = writes.join_all().await;
    assert!(answers.iter().any(|status| status.message() == "etcdserver: too many requests"));
    others.iter().for_each(|other| cluster.spawn(*other).unwrap());
    cluster.leader().await.unwrap();
    let taken = async || client.clone().kv.put(large(WRITES)).await.ok();
    cluster.wait("a large write is taken", taken).await.unwrap();
    cluster.wait_in_step().await.unwrap();
}

/// It is the leader's log that everything goes into first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_refuses_what_comes_over_others() {
    let target = Target::from_env().unwrap();
    if target == Target::Etcd {
        return;
    }
    let mut cluster = start();
    let full = cluster.leader().await.unwrap();
    put(&cluster, full, "a", "1").await;
    cluster.kill(full).unwrap();
    let all_there_is = format!("--disk-reserve-bytes={}", i64::MAX);
    cluster.node_mut(full).options_mut().args.push(all_there_is);
    cluster.start_again(full).unwrap();
    cluster.move_leader(full).await.unwrap();
    let mut client = cluster.client((full + 1) % 3).await.unwrap();
    let status = try_put(&mut client, "a", "2").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "etcdserver: mvcc: database space exceeded");
    let delete = DeleteRangeRequest { key: b"a".into(), ..DeleteRangeRequest::default() };
    client.kv.delete_range(delete).await.unwrap();
    assert_eq!(get(&cluster, full, "a").await, None);
    cluster.wait_in_step().await.unwrap();
}
