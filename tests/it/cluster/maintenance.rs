//! Alarms, quota and auto-compaction of several members.

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DefragmentRequest, DeleteRangeRequest,
    DowngradeRequest,
};
use tonic::Code;

use super::*;

async fn alarms(cluster: &Cluster, place: usize) -> Option<Vec<AlarmMember>> {
    let mut client = cluster.client(place).await.ok()?;
    Some(client.maintenance.alarm(AlarmRequest::default()).await.ok()?.into_inner().alarms)
}

async fn change_alarm(cluster: &Cluster, place: usize, action: AlarmAction, alarm: AlarmMember) {
    let AlarmMember { member_id, alarm } = alarm;
    let mut client = cluster.client(place).await.unwrap();
    let request = AlarmRequest { action: action.into(), member_id, alarm };
    client.maintenance.alarm(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_of_one_member_binds_all_and_outlives_their_leader() {
    let mut cluster = start();
    let leader = cluster.leader().await.unwrap();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let member_id = cluster.id(others[0]).await.unwrap();
    let alarm = AlarmMember { member_id, alarm: AlarmType::Corrupt.into() };
    change_alarm(&cluster, others[1], AlarmAction::Activate, alarm).await;
    for place in cluster.places() {
        assert_eq!(alarms(&cluster, place).await.unwrap(), [alarm]);
        let mut client = cluster.client(place).await.unwrap();
        let refused = try_put(&mut client, "k", "v").await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::DataLoss, "etcdserver: corrupt cluster")
        );
        assert_eq!(get(&cluster, place, "k").await, None);
        let status = cluster.status(place).await.unwrap();
        assert_eq!(status.errors, [format!("memberID:{member_id} alarm:CORRUPT ")]);
    }
    cluster.kill(leader).unwrap();
    cluster.leader_of(&others).await.unwrap();
    let mut client = cluster.client(others[0]).await.unwrap();
    assert_eq!(try_put(&mut client, "k", "v").await.unwrap_err().code(), Code::DataLoss);
    change_alarm(&cluster, others[0], AlarmAction::Deactivate, alarm).await;
    put(&cluster, others[1], "k", "v").await;
    cluster.start_again(leader).unwrap();
    put(&cluster, leader, "k", "v").await;
    assert_eq!(alarms(&cluster, leader).await.unwrap(), []);
}

/// kvd's own rule, hence without etcd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_that_a_follower_reaches_binds_all_until_there_is_room() {
    let options = ClusterOptions::new(Target::Kvd, 3).arg("--quota-backend-bytes=1MiB");
    let cluster = Cluster::start_with(options).unwrap();
    let leader = cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    let mut client = cluster.client(follower).await.unwrap();
    let value = "v".repeat(64 << 10);
    let mut revision = 0;
    for key in 0.. {
        match try_put(&mut client, &format!("k{key}"), &value).await {
            Ok(at) => revision = at,
            Err(refused) => {
                assert_eq!(refused.code(), Code::ResourceExhausted);
                break;
            }
        }
    }
    let member_id = cluster.id(follower).await.unwrap();
    let alarm = AlarmMember { member_id, alarm: AlarmType::Nospace.into() };
    for place in cluster.places() {
        // A member that refuses a client raises its own beside it.
        assert!(alarms(&cluster, place).await.unwrap().contains(&alarm));
        let mut client = cluster.client(place).await.unwrap();
        let refused = try_put(&mut client, "new", "").await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        try_put(&mut client, "k0", &value).await.unwrap();
    }
    let mut client = cluster.client(leader).await.unwrap();
    let all = DeleteRangeRequest { key: vec![0], range_end: vec![0], ..Default::default() };
    let deleted = client.kv.delete_range(all).await.unwrap().into_inner();
    assert_eq!(deleted.deleted, revision - 1);
    let compaction =
        CompactionRequest { revision: deleted.header.unwrap().revision, physical: false };
    client.kv.compact(compaction).await.unwrap();
    let calm = async || alarms(&cluster, leader).await?.is_empty().then_some(());
    cluster.wait("the alarms end", calm).await.unwrap();
    put(&cluster, follower, "new", &value).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_compacts_by_itself() {
    let options = ClusterOptions::new(Target::from_env().unwrap(), 3)
        .arg("--auto-compaction-mode=periodic")
        .arg("--auto-compaction-retention=1s");
    let cluster = Cluster::start_with(options).unwrap();
    let leader = cluster.leader().await.unwrap();
    for place in cluster.places() {
        let compacted = async || {
            put(&cluster, leader, "k", "v").await;
            (cluster.hash_kv(place, 0).await.ok()?.compact_revision > 2).then_some(())
        };
        cluster.wait("history is compacted", compacted).await.unwrap();
    }
    // Who led when somebody asked may not have led all the time, but one compaction has one author.
    if cluster.leader().await.unwrap() == leader {
        let begins = ["auto-compaction begins", "starting auto periodic compaction"];
        for place in cluster.places().filter(|place| *place != leader) {
            let log = cluster.node(place).log();
            assert!(!begins.iter().any(|begins| log.contains(begins)), "{place}: {log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_downgrade_is_announced_to_all_and_defragmenting_is_each_ones_own() {
    // An etcd changes its data then, and a connection to it broke; kvd's data stays as it is.
    let cluster = Cluster::start(Target::Kvd, 3).unwrap();
    let mut client = cluster.client(0).await.unwrap();
    let enable = DowngradeRequest { action: 1, version: "3.5".into() };
    let answer = client.maintenance.downgrade(enable).await.unwrap().into_inner();
    assert_eq!(answer.version, "3.6");
    for place in cluster.places() {
        let told = async || {
            let info = cluster.status(place).await?.downgrade_info?;
            (info.enabled && info.target_version == "3.5.0").then_some(())
        };
        cluster.wait("a downgrade is told of", told).await.unwrap();
        let mut client = cluster.client(place).await.unwrap();
        client.maintenance.defragment(DefragmentRequest {}).await.unwrap();
    }
    let cancel = DowngradeRequest { action: 2, version: String::new() };
    let mut client = cluster.client(1).await.unwrap();
    client.maintenance.downgrade(cancel).await.unwrap();
    let told = async || (!cluster.status(2).await?.downgrade_info?.enabled).then_some(());
    cluster.wait("a downgrade is canceled", told).await.unwrap();
    put(&cluster, 2, "k", "v").await;
}
