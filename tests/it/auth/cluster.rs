//! Auth on several members: tokens count at each of them, and users and roles reach whoever catches up.

use std::time::{Duration, Instant};

use harness::{Client, Cluster, ClusterOptions, PATIENCE, Target};
use proto::etcdserverpb as pb;

use super::{CHEAP, enable, get, grant_role, populate, put};

fn cluster(options: ClusterOptions) -> Cluster {
    Cluster::start_with(options.arg(CHEAP)).unwrap_or_else(|error| panic!("{error:#}"))
}

fn options() -> ClusterOptions {
    ClusterOptions::new(Target::from_env().unwrap(), 3)
}

async fn clients(cluster: &Cluster) -> Vec<Client> {
    let mut clients = Vec::new();
    for place in 0..3 {
        clients.push(Client::connect(&cluster.node(place).endpoint()).await.unwrap());
    }
    clients
}

/// A simple token is given out through the log: a member that has not heard of it yet waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_counts_at_every_member_at_once() {
    let cluster = cluster(options());
    let mut clients = clients(&cluster).await;
    populate(&mut clients[0]).await;
    enable(&mut clients[0]).await;
    for round in 0..10 {
        let request = pb::AuthenticateRequest { name: "both".into(), password: "both".into() };
        let answer = clients[round % 3].auth.authenticate(request).await.unwrap();
        let token = &answer.get_ref().token;
        for client in &clients {
            let mut both = client.with_token(token).unwrap();
            put(&mut both, "k1", 0).await.unwrap();
            assert_eq!(get(&mut both, "k1").await.unwrap(), 1);
            let denied = put(&mut both, "z", 0).await.unwrap_err();
            assert_eq!(denied.message(), "etcdserver: permission denied");
        }
    }
}

/// What one member answered counts for reads at another that come after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_permissions_counts_for_later_reads_anywhere() {
    let cluster = cluster(options());
    let mut clients = clients(&cluster).await;
    populate(&mut clients[0]).await;
    let root = enable(&mut clients[0]).await;
    drop(root);
    for round in 0..10 {
        let (changed, asked) = (round % 3, (round + 1) % 3);
        let mut root = clients[changed].log_in("root", "root").await.unwrap();
        let mut none = clients[asked].log_in("none", "none").await.unwrap();
        grant_role(&mut root, "none", "r").await;
        assert_eq!(get(&mut none, "k1").await.unwrap(), 1);
        let revoke = pb::AuthUserRevokeRoleRequest { name: "none".into(), role: "r".into() };
        root.auth.user_revoke_role(revoke).await.unwrap();
        let denied = get(&mut none, "k1").await.unwrap_err();
        assert_eq!(denied.message(), "etcdserver: permission denied");
    }
}

/// A member that was away and gets a snapshot asks the same questions as the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_roles_reach_a_member_by_snapshot() {
    let options = match Target::from_env().unwrap() {
        Target::Etcd => {
            options().arg("--snapshot-count=100").arg("--experimental-snapshot-catchup-entries=10")
        }
        Target::Kvd => options()
            .arg("--recent-bytes-max=1MiB")
            .arg("--snapshot-log-bytes=1MiB")
            .arg("--log-retention-bytes=0"),
    };
    let mut cluster = cluster(options);
    let mut client = Client::connect(&cluster.node(0).endpoint()).await.unwrap();
    cluster.kill(2).unwrap();
    populate(&mut client).await;
    let mut root = enable(&mut client).await;
    let value = vec![b'v'; 64 << 10];
    for n in 0..400 {
        let key = format!("big/{:02}", n % 20).into_bytes();
        let put = pb::PutRequest { key, value: value.clone(), ..Default::default() };
        root.kv.put(put).await.unwrap();
    }
    cluster.start_again(2).unwrap();
    let late = Client::connect(&cluster.node(2).endpoint()).await.unwrap();
    let begun = Instant::now();
    let mut reader = loop {
        match late.log_in("reader", "reader").await {
            Ok(reader) => break reader,
            Err(status) => {
                assert!(begun.elapsed() < PATIENCE, "{status}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    assert_eq!(get(&mut reader, "k1").await.unwrap(), 1);
    let denied = get(&mut reader, "z").await.unwrap_err();
    assert_eq!(denied.message(), "etcdserver: permission denied");
}

/// As in etcd, a member that restarts knows no simple token of before; the others do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_restarts_forgets_simple_tokens() {
    let mut cluster = cluster(options());
    let mut clients = clients(&cluster).await;
    populate(&mut clients[0]).await;
    enable(&mut clients[0]).await;
    let request = pb::AuthenticateRequest { name: "both".into(), password: "both".into() };
    let token = clients[1].auth.authenticate(request).await.unwrap().into_inner().token;
    cluster.stop(1).unwrap();
    cluster.start_again(1).unwrap();
    let again = Client::connect(&cluster.node(1).endpoint()).await.unwrap();
    let status = put(&mut again.with_token(&token).unwrap(), "k1", 0).await.unwrap_err();
    assert_eq!(status.message(), "etcdserver: invalid auth token");
    put(&mut clients[2].with_token(&token).unwrap(), "k1", 0).await.unwrap();
}
