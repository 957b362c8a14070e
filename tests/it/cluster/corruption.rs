//! A member whose data is another than the others': it is found, named, and changes nothing any more.
//!
//! The data is altered under a member that is stopped: in its newest snapshot file, with a checksum that is
//! right, and without the engine, which it then builds anew from that file.

use std::os::unix::fs::FileExt;
use std::process::Command;

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, SnapshotRequest,
};
use tonic::Code;

use super::*;

const BEFORE: &str = "this is what all members have";
const AFTER: &str = "this is what one member has..";
const CHECKSUM_BYTES: usize = 32;

fn options() -> ClusterOptions {
    ClusterOptions::new(Target::Kvd, 3).arg("--compact-hash-check-time=1s")
}

/// A cluster, one of whose members has another value than the others; which one that is.
async fn diverged(options: ClusterOptions) -> (Cluster, usize) {
    let mut cluster = Cluster::start_with(options).unwrap_or_else(|error| panic!("{error:#}"));
    put(&cluster, 0, "victim", BEFORE).await;
    put(&cluster, 0, "other", "x").await;
    cluster.wait_in_step().await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let place = (leader + 1) % 3;
    let mut client = cluster.client(place).await.unwrap();
    let mut blobs = client.maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    while blobs.message().await.unwrap().is_some() {}
    cluster.stop(place).unwrap();
    for file in snapshots(&cluster, place) {
        alter(&file);
    }
    fs::remove_dir_all(cluster.node(place).data_dir().join("db")).unwrap();
    (cluster, place)
}

/// Another value in a snapshot file, and the checksum that goes with it.
fn alter(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let image = bytes.len() - CHECKSUM_BYTES;
    let before = BEFORE.as_bytes();
    let found = bytes.windows(before.len()).position(|window| window == before);
    let at = found.expect("the file has the value");
    bytes[at..at + before.len()].copy_from_slice(AFTER.as_bytes());
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&bytes[at..at + before.len()], at as u64).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("image");
    fs::write(&copy, &bytes[..image]).unwrap();
    let output = Command::new("sha256sum").arg(&copy).output().unwrap();
    let digits = String::from_utf8(output.stdout).unwrap();
    let checksum: Vec<u8> = (0..CHECKSUM_BYTES)
        .map(|byte| u8::from_str_radix(&digits[2 * byte..2 * byte + 2], 16).unwrap())
        .collect();
    file.write_all_at(&checksum, image as u64).unwrap();
}

/// What a member itself has.
async fn own_value(cluster: &Cluster, place: usize) -> Option<String> {
    let mut client = cluster.client(place).await.ok()?;
    let key = b"victim".to_vec();
    let range = RangeRequest { key, serializable: true, ..RangeRequest::default() };
    let kvs = client.kv.range(range).await.ok()?.into_inner().kvs;
    String::from_utf8(kvs.first()?.parse().ok()?.value.to_vec()).ok()
}

async fn alarms(cluster: &Cluster, place: usize) -> Option<Vec<AlarmMember>> {
    let mut client = cluster.client(place).await.ok()?;
    let list = client.maintenance.alarm(AlarmRequest::default()).await.ok()?.into_inner().alarms;
    (!list.is_empty()).then_some(list)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_finds_the_member_whose_data_differs() {
    let (mut cluster, place) = diverged(options()).await;
    cluster.start_again(place).unwrap();
    let wrong = async || own_value(&cluster, place).await.filter(|value| value == AFTER);
    cluster.wait("the member has another value", wrong).await.unwrap();
    let revision = put(&cluster, 0, "later", "y").await;
    let mut client = cluster.any_client().await.unwrap();
    let compaction = CompactionRequest { revision, physical: true };
    client.kv.compact(compaction).await.unwrap();

    let member_id = cluster.id(place).await.unwrap();
    let named = AlarmMember { member_id, alarm: AlarmType::Corrupt.into() };
    for place in cluster.places() {
        let raised = async || alarms(&cluster, place).await;
        assert_eq!(cluster.wait("the alarm is raised", raised).await.unwrap(), [named]);
        let mut client = cluster.client(place).await.unwrap();
        let refused = try_put(&mut client, "k", "v").await.unwrap_err();
        assert_eq!(refused.code(), Code::DataLoss, "{refused}");
        get(&cluster, place, "other").await;
    }
    let leader = cluster.leader().await.unwrap();
    let log = cluster.node(leader).log();
    let line = log.lines().find(|line| line.contains("differs from that of the majority"));
    assert!(line.is_some_and(|line| line.contains(&format!("{member_id:x}"))), "{log}");

    // The way out: the member is replaced, and the alarm disarmed.
    cluster.replace(place, leader).await.unwrap();
    let mut client = cluster.client(leader).await.unwrap();
    let AlarmMember { member_id, alarm } = named;
    let disarm = AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm };
    client.maintenance.alarm(disarm).await.unwrap();
    let revision = put(&cluster, leader, "k", "v").await;
    let compaction = CompactionRequest { revision, physical: true };
    client.kv.compact(compaction).await.unwrap();
    cluster.wait_in_step().await.unwrap();
    assert_eq!(own_value(&cluster, place).await.unwrap(), BEFORE);
    put(&cluster, place, "k", "w").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_compaction_the_data_is_compared_now_and_then() {
    let (mut cluster, place) = diverged(options().arg("--corrupt-check-time=1s")).await;
    cluster.start_again(place).unwrap();
    let raised = async || alarms(&cluster, (place + 1) % 3).await;
    let list = cluster.wait("the alarm is raised", raised).await.unwrap();
    let member_id = cluster.id(place).await.unwrap();
    assert_eq!(list, [AlarmMember { member_id, alarm: AlarmType::Corrupt.into() }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_may_check_itself_before_it_takes_part() {
    let options = options().arg("--experimental-initial-corrupt-check=true");
    let (mut cluster, place) = diverged(options).await;
    cluster.spawn(place).unwrap();
    let status = cluster.wait_exit(place).unwrap();
    assert!(!status.success());
    let log = cluster.node(place).log();
    assert!(log.contains("the data of this member differs from that of member"), "{log}");
    // The others neither changed nor noticed anything.
    let other = (place + 1) % 3;
    assert_eq!(alarms(&cluster, other).await, None);
    put(&cluster, other, "k", "v").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_agree_are_left_alone() {
    let options = options().arg("--corrupt-check-time=1s");
    let mut trial = trial_with(options.arg("--experimental-initial-corrupt-check=true"));
    trial.work(Mix { compact: true, ..Mix::default() });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        get_on(&trial).await;
        assert_eq!(alarms(&trial.cluster, 0).await, None);
    }
    check(&mut trial).await;
    let place = trial.cluster.leader().await.unwrap();
    assert_eq!(alarms(&trial.cluster, place).await, None);
}
