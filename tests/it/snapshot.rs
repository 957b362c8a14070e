//! A snapshot that kvd streams is etcd's own format: Debian's etcdctl takes and checks it, and a
//! real etcd, Debian's old one or the newest, that is restored from it has the same history.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Client, Node, NodeOptions, Target, etcd_is_required, go_binary};
use proto::KeyValue;
use proto::authpb::UserAddOptions;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, AuthRoleAddRequest, AuthRoleListRequest,
    AuthUserAddRequest, AuthUserListRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
};
use tonic::Code;

const KEYS: usize = 60;
/// Revisions that are looked at, over the whole history.
const SAMPLES: i64 = 12;

/// A program of Debian's etcd, if it is installed or has to be.
fn debian(name: &str) -> Option<PathBuf> {
    let path = Path::new("/usr/bin").join(name);
    assert!(path.is_file() || !etcd_is_required(), "no {}", path.display());
    path.is_file().then_some(path)
}

fn run(etcdctl: &Path, args: &[&str]) -> Output {
    Command::new(etcdctl).env("ETCDCTL_API", "3").args(args).output().unwrap()
}

fn succeed(etcdctl: &Path, args: &[&str]) -> String {
    let output = run(etcdctl, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn put(key: String, value: Vec<u8>) -> PutRequest {
    PutRequest { key: key.into_bytes(), value, ..Default::default() }
}

fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    let (key, range_end) = (key.into(), range_end.into());
    DeleteRangeRequest { key, range_end, ..Default::default() }
}

/// One change of each kind: new keys and overwritten ones, large values, tombstones of one and of
/// several keys, and transactions that do all of it in one revision.
async fn change(client: &mut Client, round: usize) -> i64 {
    let key = |number: usize| format!("k/{:03}", number % KEYS);
    let value = format!("{round}").repeat(1 + round * 37 % 300).into_bytes();
    let header = match round % 10 {
        3 => client.kv.delete_range(delete(&key(round * 7), "")).await.unwrap().into_inner().header,
        5 if round % 50 == 5 => {
            let range = delete(&key(round), &key(round + 4));
            client.kv.delete_range(range).await.unwrap().into_inner().header
        }
        7 => {
            let success = vec![
                operation(request_op::Request::RequestPut(put(key(round), value.clone()))),
                operation(request_op::Request::RequestDeleteRange(delete(&key(round + 1), ""))),
                operation(request_op::Request::RequestPut(put(format!("t/{round}"), value))),
            ];
            let request = TxnRequest { success, ..Default::default() };
            client.kv.txn(request).await.unwrap().into_inner().header
        }
        9 => {
            let large = put(format!("large/{}", round % 30), vec![b'x'; 1000 * (round % 700)]);
            client.kv.put(large).await.unwrap().into_inner().header
        }
        _ => client.kv.put(put(key(round * round), value)).await.unwrap().into_inner().header,
    };
    header.expect("an answer has a header").revision
}

fn operation(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Everything that a client can see of a revision.
async fn everything(client: &mut Client, revision: i64) -> Result<Vec<KeyValue>, (Code, String)> {
    let (key, range_end) = (b"\0".to_vec(), b"\0".to_vec());
    let request = RangeRequest { key, range_end, revision, ..Default::default() };
    match client.kv.range(request).await {
        Ok(answer) => Ok(answer.into_inner().kvs.iter().map(|kv| kv.parse().unwrap()).collect()),
        Err(status) => Err((status.code(), status.message().to_owned())),
    }
}

/// Hash and compact revision.
async fn hash_kv(client: &mut Client, revision: i64) -> (u32, i64) {
    let request = HashKvRequest { revision };
    let answer = client.maintenance.hash_kv(request).await.unwrap().into_inner();
    (answer.hash, answer.compact_revision)
}

/// Revisions from `first` to `last`, both of them among these.
fn samples(first: i64, last: i64) -> impl Iterator<Item = i64> {
    (0..=SAMPLES).map(move |part| first + (last - first) * part / SAMPLES)
}

/// A member with a history that was compacted in its middle, and the revision of that.
async fn filled() -> (Node, Client, i64) {
    // Small, so that it writes snapshot files of its own.
    let options = NodeOptions::new(Target::Kvd).arg("--snapshot-log-bytes=1MiB");
    let node = Node::start(options).unwrap();
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    let mut compacted = 0;
    for round in 0..600 {
        let revision = change(&mut client, round).await;
        if round == 150 || round == 350 {
            compacted = revision - 5;
            // The answer comes when the rows are gone, as they are in what etcd restores.
            let request = CompactionRequest { revision: compacted, physical: true };
            client.kv.compact(request).await.unwrap();
        }
    }
    (node, client, compacted)
}

/// Has etcdctl save a snapshot while somebody writes. The revision that is in it.
async fn save_while_writing(etcdctl: &Path, node: &Node, file: &str) -> i64 {
    let enough = Arc::new(AtomicBool::new(false));
    let (seen, endpoint) = (enough.clone(), node.endpoint());
    let (first, wrote) = tokio::sync::oneshot::channel();
    let writer = tokio::spawn(async move {
        let mut client = Client::connect(&endpoint).await.unwrap();
        let begin = change(&mut client, 600).await;
        first.send(begin).unwrap();
        let mut end = begin;
        for round in 601.. {
            end = change(&mut client, round).await;
            if seen.load(Ordering::Relaxed) {
                break;
            }
        }
        end
    });
    let begin = wrote.await.unwrap();
    let endpoints = format!("--endpoints={}", node.endpoint());
    let (ctl, path) = (etcdctl.to_path_buf(), file.to_owned());
    tokio::task::spawn_blocking(move || succeed(&ctl, &[&endpoints, "snapshot", "save", &path]))
        .await
        .unwrap();
    enough.store(true, Ordering::Relaxed);
    let end = writer.await.unwrap();
    let status = succeed(etcdctl, &["snapshot", "status", "-w", "json", file]);
    let (_, revision) = status.split_once("\"revision\":").unwrap();
    let digits = revision.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let revision = digits.parse().unwrap();
    assert!((begin..end).contains(&revision), "{begin} to {end} written meanwhile: {status}");
    revision
}

/// One release of etcd: the server, and what restores a snapshot for it. An etcd of today does not
/// start from what Debian's etcdctl restored, whoever saved it: the members are elsewhere.
struct Release {
    etcd: PathBuf,
    restorer: PathBuf,
    /// Whether it hashes a history as kvd does; the rules have changed since Debian's.
    same_hash: bool,
}

fn releases() -> Option<[Release; 2]> {
    let old = Release { etcd: debian("etcd")?, restorer: debian("etcdctl")?, same_hash: false };
    match (Target::Etcd.binary(), go_binary("etcdutl")) {
        (Ok(etcd), Ok(restorer)) => Some([Release { etcd, restorer, same_hash: true }, old]),
        (Err(error), _) | (_, Err(error)) => {
            assert!(!etcd_is_required(), "{error:#}");
            None
        }
    }
}

/// An etcd that is served from the file.
fn restored(release: &Release, file: &str) -> Node {
    let mut options = NodeOptions::new(Target::Etcd);
    options.program = Some(release.etcd.clone());
    let mut node = Node::prepare(options).unwrap();
    let (data, peer) = (node.data_dir(), node.peer_url());
    let data = data.to_str().unwrap();
    let cluster = format!("--initial-cluster=n1={peer}");
    let url = format!("--initial-advertise-peer-urls={peer}");
    let args = ["snapshot", "restore", file, "--name=n1", "--data-dir", data, &cluster, &url];
    succeed(&release.restorer, &args);
    node.start_again().unwrap();
    node
}

/// A damaged file is not mistaken for a snapshot: what makes the checks above worth something.
fn refuse_damaged(etcdctl: &Path, dir: &Path, file: &str) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let (damaged, data) = (dir.join("damaged.db"), dir.join("never"));
    fs::write(&damaged, bytes).unwrap();
    let args = ["snapshot", "restore", damaged.to_str().unwrap(), "--data-dir"];
    let output = run(etcdctl, &[&args[..], &[data.to_str().unwrap()]].concat());
    assert!(!output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_goes_on_from_what_debians_etcdctl_saved() {
    let (Some(etcdctl), Some(releases)) = (debian("etcdctl"), releases()) else { return };
    let (node, mut ours, compacted) = filled().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("saved.db").to_str().unwrap().to_owned();
    let last = save_while_writing(&etcdctl, &node, &file).await;
    refuse_damaged(&etcdctl, dir.path(), &file);
    for release in releases {
        let other = restored(&release, &file);
        let mut theirs = Client::connect(&other.endpoint()).await.unwrap();
        for revision in samples(compacted, last) {
            let expected = everything(&mut ours, revision).await;
            assert!(expected.as_ref().is_ok_and(|kvs| kvs.len() > KEYS / 2), "{revision}");
            assert!(everything(&mut theirs, revision).await == expected, "at {revision}");
        }
        let newest = everything(&mut theirs, 0).await;
        assert!(newest == everything(&mut ours, last).await, "nothing after {last}");
        let gone = everything(&mut ours, compacted - 1).await.unwrap_err();
        assert_eq!(gone.0, Code::OutOfRange);
        assert_eq!(everything(&mut theirs, compacted - 1).await, Err(gone));
        if release.same_hash {
            for revision in samples(compacted + 1, last) {
                let (hash, at) = hash_kv(&mut ours, revision).await;
                assert_eq!(hash_kv(&mut theirs, revision).await, (hash, at), "at {revision}");
                assert_eq!(at, compacted);
            }
        }
        assert_eq!(change(&mut theirs, 0).await, last + 1, "it goes on from there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_go_along_to_an_etcd_that_is_restored() {
    let (Some(etcdctl), Some(releases)) = (debian("etcdctl"), releases()) else { return };
    let node = Node::start_one(Target::Kvd).unwrap();
    let mut ours = Client::connect(&node.endpoint()).await.unwrap();
    ours.kv.put(put("k".into(), b"v".to_vec())).await.unwrap();
    let alarm = AlarmMember { member_id: 7, alarm: AlarmType::Nospace.into() };
    let action = AlarmAction::Activate.into();
    let raise = AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.alarm };
    ours.maintenance.alarm(raise).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("saved.db").to_str().unwrap().to_owned();
    let endpoints = format!("--endpoints={}", node.endpoint());
    succeed(&etcdctl, &[&endpoints, "snapshot", "save", &file]);
    for release in releases {
        let other = restored(&release, &file);
        let mut theirs = Client::connect(&other.endpoint()).await.unwrap();
        let list = theirs.maintenance.alarm(AlarmRequest::default()).await.unwrap();
        assert_eq!(list.into_inner().alarms, [alarm]);
        let refused = theirs.kv.put(put("new".into(), b"v".to_vec())).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
    }
}

/// Names are keys of the file, whose branch pages have to hold two of them however long they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_longer_than_a_page_go_along_to_an_etcd_that_is_restored() {
    let (Some(etcdctl), Some(releases)) = (debian("etcdctl"), releases()) else { return };
    let node = Node::start_one(Target::Kvd).unwrap();
    let mut ours = Client::connect(&node.endpoint()).await.unwrap();
    let names: Vec<String> = ["a", "b", "c"].map(|letter| letter.repeat(5_000)).into();
    let longest = "n".repeat(32 << 10);
    let add_user = |name: String| {
        let options = Some(UserAddOptions { no_password: true });
        AuthUserAddRequest { name, options, ..Default::default() }
    };
    for name in names.iter().chain([&longest]).cloned() {
        ours.auth.role_add(AuthRoleAddRequest { name: name.clone() }).await.unwrap();
        ours.auth.user_add(add_user(name)).await.unwrap();
    }
    let longer = format!("{longest}n");
    let refused = [
        ours.auth.role_add(AuthRoleAddRequest { name: longer.clone() }).await.unwrap_err(),
        ours.auth.user_add(add_user(longer)).await.unwrap_err(),
    ];
    assert!(refused.iter().all(|status| status.code() == Code::InvalidArgument), "{refused:?}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("saved.db").to_str().unwrap().to_owned();
    let endpoints = format!("--endpoints={}", node.endpoint());
    succeed(&etcdctl, &[&endpoints, "snapshot", "save", &file]);
    assert!(fs::metadata(&file).unwrap().len() < 1 << 20);
    for release in releases {
        succeed(&release.restorer, &["snapshot", "status", &file]);
        let other = restored(&release, &file);
        let mut theirs = Client::connect(&other.endpoint()).await.unwrap();
        let expected: Vec<String> = names.iter().chain([&longest]).cloned().collect();
        let users = theirs.auth.user_list(AuthUserListRequest {}).await.unwrap();
        assert_eq!(users.into_inner().users, expected);
        let roles = theirs.auth.role_list(AuthRoleListRequest {}).await.unwrap();
        assert_eq!(roles.into_inner().roles, expected);
        theirs.auth.user_add(add_user("ab".repeat(3_000))).await.unwrap();
    }
}

#[tokio::test]
async fn without_its_engine_a_killed_member_has_the_same_history() {
    let (mut node, mut client, compacted) = filled().await;
    let mut last = 0;
    for round in 600.. {
        last = change(&mut client, round).await;
        if node.log().contains("snapshot file written") {
            break;
        }
        assert!(round < 6000, "no snapshot file: {}", node.log_tail());
    }
    // Behind the newest snapshot file, there is the log.
    for round in 1..100 {
        last = change(&mut client, round).await;
    }
    let mut before = Vec::new();
    for revision in samples(compacted + 1, last) {
        let hash = hash_kv(&mut client, revision).await;
        before.push((revision, hash, everything(&mut client, revision).await));
    }
    node.kill().unwrap();
    fs::remove_dir_all(node.data_dir().join("db")).unwrap();
    node.start_again().unwrap();
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    for (revision, hash, kvs) in before {
        assert_eq!(hash_kv(&mut client, revision).await, hash, "at {revision}");
        assert!(everything(&mut client, revision).await == kvs, "at {revision}");
    }
    assert_eq!(change(&mut client, 1).await, last + 1, "it goes on from there");
}
