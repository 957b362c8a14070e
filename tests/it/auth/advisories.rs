//! What etcd had to publish advisories about, by their names: none of it works here.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Client, Node, Target};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::watch_request::RequestUnion;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{add_role, add_user, enable, get, options, populate, put, start};

struct World {
    /// Lives as long as its clients are to be answered.
    node: Node,
    nobody: Client,
    root: Client,
}

async fn world() -> World {
    let node = start(options());
    let mut nobody = Client::connect(&node.endpoint()).await.unwrap();
    populate(&mut nobody).await;
    let root = enable(&mut nobody).await;
    World { node, nobody, root }
}

impl World {
    async fn user(&self, name: &str) -> Client {
        self.nobody.log_in(name, name).await.unwrap()
    }
}

#[track_caller]
fn is_denied<T: std::fmt::Debug>(answer: Result<T, Status>) {
    assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
}

#[track_caller]
fn is_unknown<T: std::fmt::Debug>(answer: Result<T, Status>) {
    assert_eq!(answer.unwrap_err().message(), "etcdserver: user name is empty");
}

fn txn_of(request: Request) -> pb::TxnRequest {
    let success = vec![pb::RequestOp { request: Some(request) }];
    pb::TxnRequest { success, ..Default::default() }
}

#[tokio::test]
async fn cve_2023_32082_time_to_live_tells_keys_to_readers_only() {
    let mut world = world().await;
    let grant = pb::LeaseGrantRequest { ttl: 600, id: 7 };
    world.root.lease.lease_grant(grant).await.unwrap();
    put(&mut world.root, "z-secret", 7).await.unwrap();
    let mut reader = world.user("reader").await;
    let ask = |keys| pb::LeaseTimeToLiveRequest { id: 7, keys };
    is_denied(reader.lease.lease_time_to_live(ask(true)).await);
    let told = reader.lease.lease_time_to_live(ask(false)).await.unwrap();
    assert!(told.get_ref().keys.is_empty());
    is_denied(reader.lease.lease_leases(pb::LeaseLeasesRequest {}).await);
}

#[tokio::test]
async fn cve_2026_33413_members_alarms_leases_and_compaction_want_a_user() {
    let World { mut nobody, mut root, node: _node } = world().await;
    root.lease.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 7 }).await.unwrap();
    is_unknown(nobody.cluster.member_list(pb::MemberListRequest::default()).await);
    is_unknown(nobody.maintenance.alarm(pb::AlarmRequest::default()).await);
    is_unknown(nobody.lease.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 8 }).await);
    is_unknown(nobody.lease.lease_revoke(pb::LeaseRevokeRequest { id: 7 }).await);
    is_unknown(nobody.lease.lease_leases(pb::LeaseLeasesRequest {}).await);
    let ask = pb::LeaseTimeToLiveRequest { id: 7, keys: false };
    is_unknown(nobody.lease.lease_time_to_live(ask).await);
    is_unknown(nobody.keep_alive(vec![7]).await.pop().unwrap());
    is_unknown(nobody.kv.compact(pb::CompactionRequest { revision: 2, physical: false }).await);
    is_unknown(nobody.maintenance.snapshot(pb::SnapshotRequest {}).await.map(|_| ()));
}

#[tokio::test]
async fn cve_2026_33343_a_nested_transaction_asks_as_any_other() {
    let mut world = world().await;
    let mut both = world.user("both").await;
    let range = pb::RangeRequest { key: b"z".into(), ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: b"z".into(), ..Default::default() };
    let put = pb::PutRequest { key: b"z".into(), ..Default::default() };
    for request in [
        Request::RequestRange(range),
        Request::RequestDeleteRange(delete),
        Request::RequestPut(put),
    ] {
        let nested = txn_of(Request::RequestTxn(txn_of(request)));
        is_denied(both.kv.txn(nested).await);
    }
    assert_eq!(get(&mut world.root, "z").await.unwrap(), 1);
}

#[tokio::test]
async fn cve_2026_44283_a_put_in_a_transaction_neither_reads_nor_joins_a_lease_unasked() {
    let mut world = world().await;
    world.root.lease.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 7 }).await.unwrap();
    put(&mut world.root, "z", 7).await.unwrap();
    let mut writer = world.user("writer").await;
    let put = pb::PutRequest { key: b"k1".into(), ..Default::default() };
    let prev_kv = pb::PutRequest { prev_kv: true, ..put.clone() };
    is_denied(writer.kv.txn(txn_of(Request::RequestPut(prev_kv))).await);
    let lease = pb::PutRequest { lease: 7, ..put.clone() };
    is_denied(writer.kv.txn(txn_of(Request::RequestPut(lease))).await);
    writer.kv.txn(txn_of(Request::RequestPut(put))).await.unwrap();
}

#[tokio::test]
async fn ghsa_xg4h_6gfc_h4m8_one_key_is_not_all_that_follow() {
    let world = world().await;
    let reader = world.user("reader").await;
    let (key, range_end) = (b"p".to_vec(), b"\0".to_vec());
    let create = pb::WatchCreateRequest { key, range_end, ..Default::default() };
    let mut stream = harness::script::WatchStream::open(&reader);
    stream.send(Some(RequestUnion::CreateRequest(create))).unwrap();
    let answer = stream.receive().await.unwrap();
    assert!(answer.canceled, "{answer:?}");
    assert!(answer.cancel_reason.ends_with("etcdserver: permission denied"), "{answer:?}");
}

/// Whether a file below `path` has these bytes.
fn holds(path: &Path, secret: &[u8]) -> Option<std::path::PathBuf> {
    if path.is_dir() {
        let mut entries = std::fs::read_dir(path).unwrap();
        return entries.find_map(|entry| holds(&entry.unwrap().path(), secret));
    }
    let bytes = std::fs::read(path).ok()?;
    bytes.windows(secret.len()).any(|window| window == secret).then(|| path.to_owned())
}

/// And CVE-2021-28235, where a password showed up in what was meant for debugging.
#[tokio::test]
async fn ghsa_528j_passwords_are_in_no_log_and_in_no_file() {
    let node = start(options().arg("--log-level=debug"));
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    populate(&mut client).await;
    let mut root = enable(&mut client).await;
    let secret = "correct-horse-battery";
    let request = pb::AuthUserAddRequest {
        name: "alice".into(),
        password: secret.into(),
        ..Default::default()
    };
    root.auth.user_add(request).await.unwrap();
    let mut alice = client.log_in("alice", secret).await.unwrap();
    is_denied(get(&mut alice, "k1").await);
    client.log_in("alice", &format!("{secret}-wrong")).await.unwrap_err();
    client.log_in(secret, secret).await.unwrap_err();
    let request = pb::AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: format!("{secret}-2"),
        ..Default::default()
    };
    root.auth.user_change_password(request).await.unwrap();
    client.log_in("alice", &format!("{secret}-2")).await.unwrap();
    if Target::from_env().unwrap() == Target::Kvd {
        assert_eq!(holds(node.dir(), format!("{secret}-").as_bytes()), None);
    }
    drop(node);
}

/// What nobody limits otherwise: a member that hashes passwords all the time serves the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_passwords_does_not_hold_up_others() {
    let node = Node::start(options().arg("--bcrypt-cost=11")).unwrap();
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    add_role(&mut client, "r", &[]).await;
    add_user(&mut client, "root", &["root"]).await;
    let mut root = enable(&mut client).await;
    let mut guesses = JoinSet::new();
    for _ in 0..40 {
        let client = Client::connect(&node.endpoint()).await.unwrap();
        guesses.spawn(async move {
            loop {
                let _ = client.log_in("root", "guess").await;
            }
        });
    }
    let (begun, mut slowest, mut puts) = (Instant::now(), Duration::ZERO, 0);
    while begun.elapsed() < Duration::from_secs(3) {
        let sent = Instant::now();
        put(&mut root, "k", 0).await.unwrap();
        slowest = slowest.max(sent.elapsed());
        puts += 1;
    }
    guesses.abort_all();
    eprintln!("{puts} puts among guesses, the slowest {slowest:?}");
    if Target::from_env().unwrap() == Target::Kvd {
        assert!(slowest < Duration::from_secs(1), "a put took {slowest:?}");
    }
}
