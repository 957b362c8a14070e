//! Simple tokens in time: one that nobody shows ends, and what was begun with it goes on.

use std::time::{Duration, Instant};

use harness::Client;
use harness::script::WatchStream;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;

use super::{enable, get, options, populate, put, start};

const TTL: &str = "--auth-token-ttl=1";
/// By then it has ended also where tokens are looked through once a second.
const ENDED_AFTER: Duration = Duration::from_secs(3);

fn watch(stream: &mut WatchStream) {
    let (key, range_end) = (b"k".to_vec(), b"l".to_vec());
    let create = pb::WatchCreateRequest { key, range_end, ..Default::default() };
    stream.send(Some(RequestUnion::CreateRequest(create))).unwrap();
}

#[tokio::test]
async fn an_idle_token_ends_and_its_watch_goes_on() {
    let node = start(options().arg(TTL));
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    populate(&mut client).await;
    enable(&mut client).await;
    let mut idle = client.log_in("reader", "reader").await.unwrap();
    let mut busy = client.log_in("both", "both").await.unwrap();
    let mut stream = WatchStream::open(&idle);
    watch(&mut stream);
    assert!(stream.receive().await.unwrap().created);

    let begun = Instant::now();
    while begun.elapsed() < ENDED_AFTER {
        assert_eq!(get(&mut busy, "k1").await.unwrap(), 1, "one that is shown lives on");
    }
    let ended = get(&mut idle, "k1").await.unwrap_err();
    assert_eq!(ended.message(), "etcdserver: invalid auth token");

    put(&mut busy, "k1", 0).await.unwrap();
    assert_eq!(stream.receive().await.unwrap().events.len(), 1);
    watch(&mut stream);
    let refused = stream.receive().await.unwrap();
    assert!(refused.cancel_reason.ends_with("etcdserver: invalid auth token"), "{refused:?}");
}

/// A stream of keepalives is asked each time, and ends when its user may not any more.
#[tokio::test]
async fn keepalives_end_when_permissions_do() {
    let node = start(options());
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    populate(&mut client).await;
    let mut root = enable(&mut client).await;
    root.lease.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 7 }).await.unwrap();
    put(&mut root, "k1", 7).await.unwrap();
    let mut writer = client.log_in("writer", "writer").await.unwrap();
    let (requests, outgoing) = tokio::sync::mpsc::channel(1);
    let keep = || pb::LeaseKeepAliveRequest { id: 7 };
    requests.send(keep()).await.unwrap();
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let mut answers = writer.lease.lease_keep_alive(outgoing).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 600);
    let revoke = pb::AuthUserRevokeRoleRequest { name: "writer".into(), role: "w".into() };
    root.auth.user_revoke_role(revoke).await.unwrap();
    requests.send(keep()).await.unwrap();
    let denied = answers.message().await.unwrap_err();
    assert_eq!(denied.message(), "etcdserver: permission denied");
}
