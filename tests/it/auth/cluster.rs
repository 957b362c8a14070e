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

/// Options with which what is written here soon leaves the log.
fn short_log() -> ClusterOptions {
    match Target::from_env().unwrap() {
        Target::Etcd => {
            options().arg("--snapshot-count=100").arg("--experimental-snapshot-catchup-entries=10")
        }
        Target::Kvd => options()
            .arg("--recent-bytes-max=1MiB")
            .arg("--snapshot-log-bytes=1MiB")
            .arg("--log-retention-bytes=0"),
    }
}

/// Writes until the logs of all but the one that is away begin behind what it may have.
async fn outrun(cluster: &Cluster, root: &mut Client, away: usize) {
    let (name, password) = ("root".to_owned(), "root".to_owned());
    let login = root.auth.authenticate(pb::AuthenticateRequest { name, password }).await.unwrap();
    // A simple token names its place in the log.
    let last: u64 = login.get_ref().token.split_once('.').unwrap().1.parse().unwrap();
    let value = vec![b'v'; 64 << 10];
    let begun = Instant::now();
    for round in 1.. {
        let mut revision = 0;
        for n in 0..100 {
            let key = format!("big/{:02}", n % 20).into_bytes();
            let put = pb::PutRequest { key, value: value.clone(), ..Default::default() };
            revision = root.kv.put(put).await.unwrap().get_ref().header.unwrap().revision;
        }
        root.kv.compact(pb::CompactionRequest { revision, physical: false }).await.unwrap();
        let purged = || (0..3).filter(|place| *place != away).all(|it| cluster.purged(it) >= last);
        let is_outrun = match Target::from_env().unwrap() {
            Target::Etcd => round == 4,
            Target::Kvd => purged(),
        };
        if is_outrun {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the logs keep what is before {last}");
    }
}

/// A member that was away and gets a snapshot asks the same questions as the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_roles_reach_a_member_by_snapshot() {
    let mut cluster = cluster(short_log());
    let away = (cluster.leader().await.unwrap() + 1) % 3;
    let at = cluster.node((away + 1) % 3).endpoint();
    let mut client = Client::connect(&at).await.unwrap();
    cluster.kill(away).unwrap();
    populate(&mut client).await;
    let mut root = enable(&mut client).await;
    outrun(&cluster, &mut root, away).await;
    cluster.start_again(away).unwrap();
    let late = Client::connect(&cluster.node(away).endpoint()).await.unwrap();
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

/// What ended a token may be in the entries that a member is spared: it then knows none of before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_does_not_outlive_its_password_at_a_member_that_gets_a_snapshot() {
    if Target::from_env().unwrap() == Target::Etcd {
        // It does not say when it installs a snapshot.
        return;
    }
    let mut cluster = cluster(short_log());
    let mut clients = clients(&cluster).await;
    populate(&mut clients[0]).await;
    // Who leads can be asked as long as auth is off.
    let away = (cluster.leader().await.unwrap() + 1) % 3;
    enable(&mut clients[0]).await;
    let mut both = clients[away].log_in("both", "both").await.unwrap();
    assert_eq!(get(&mut both, "k1").await.unwrap(), 1);
    cluster.pause(away).unwrap();
    let mut root = clients[(away + 1) % 3].log_in("root", "root").await.unwrap();
    // What is sent to it first waits in its sockets.
    outrun(&cluster, &mut root, away).await;
    let (name, password) = ("both".to_owned(), "new".to_owned());
    let change = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
    root.auth.user_change_password(change).await.unwrap();
    outrun(&cluster, &mut root, away).await;
    cluster.resume(away).unwrap();
    let installed = async || (cluster.snapshots_installed(away) > 0).then_some(());
    cluster.wait("it installs a snapshot", installed).await.unwrap();
    // Which is said a moment before it counts.
    let forgotten = async || {
        let refused = get(&mut both.clone(), "k1").await.err()?;
        (refused.message() == "etcdserver: invalid auth token").then_some(())
    };
    cluster.wait("it forgets the token", forgotten).await.unwrap();
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
