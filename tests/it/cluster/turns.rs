//! Locks and elections of clients of different members, while the members' own leader goes.

use proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};
use proto::v3electionpb::{CampaignRequest, LeaderRequest};
use proto::v3lockpb::{LockRequest, UnlockRequest};

use super::*;

/// Longer than any test.
const TTL: i64 = 600;

async fn grant(cluster: &Cluster, place: usize, id: i64) {
    let mut client = cluster.client(place).await.unwrap();
    client.lease.lease_grant(LeaseGrantRequest { ttl: TTL, id }).await.unwrap();
}

/// Waits until a client's key is in the queue.
async fn queued(cluster: &Cluster, place: usize, key: &str) {
    let look = async || {
        let mut client = cluster.client(place).await.ok()?;
        try_get(&mut client, key).await.ok().flatten()
    };
    cluster.wait("a client waits in the queue", look).await.unwrap();
}

/// The leader's place, and those of the others.
async fn places(cluster: &Cluster) -> (usize, [usize; 2]) {
    let leader = cluster.leader().await.unwrap();
    (leader, [(leader + 1) % 3, (leader + 2) % 3])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_goes_on_to_clients_of_other_members_and_survives_their_leader() {
    let mut cluster = start();
    let (leader, [one, other]) = places(&cluster).await;
    for id in [1, 2, 3] {
        grant(&cluster, one, id).await;
    }
    let lock = |place: usize, lease: i64| {
        let endpoint = cluster.endpoints()[place].clone();
        tokio::spawn(async move {
            let mut client = Client::connect(&endpoint).await.unwrap();
            let request = LockRequest { name: b"name".into(), lease };
            client.lock.lock(request).await.map(|held| held.into_inner().key)
        })
    };
    let held = lock(leader, 1).await.unwrap().unwrap();
    assert_eq!(held, b"name/1");
    let second = lock(one, 2);
    queued(&cluster, other, "name/2").await;
    let third = lock(other, 3);
    queued(&cluster, one, "name/3").await;

    cluster.kill(leader).unwrap();
    let unlock = async || {
        let mut client = cluster.client(other).await.ok()?;
        client.lock.unlock(UnlockRequest { key: held.clone() }).await.ok()
    };
    cluster.wait("the lock is given back", unlock).await.unwrap();
    assert_eq!(second.await.unwrap().unwrap(), b"name/2");
    assert!(!third.is_finished(), "two clients hold the lock");
    let revoke = async || {
        let mut client = cluster.client(other).await.ok()?;
        client.lease.lease_revoke(LeaseRevokeRequest { id: 2 }).await.ok()
    };
    cluster.wait("the holder's lease ends", revoke).await.unwrap();
    assert_eq!(third.await.unwrap().unwrap(), b"name/3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_at_one_member_hears_of_who_is_elected_at_others() {
    let cluster = start();
    let (leader, [one, other]) = places(&cluster).await;
    let mut observer = cluster.client(one).await.unwrap();
    let observe = observer.election.observe(LeaderRequest { name: b"name".into() });
    // A server says nothing at all before there is something to tell.
    let campaigns = async {
        for (lease, place) in [(1, other), (2, leader)] {
            grant(&cluster, place, lease).await;
            let mut client = cluster.client(place).await.unwrap();
            let value = lease.to_string().into_bytes();
            let request = CampaignRequest { name: b"name".into(), lease, value };
            client.election.campaign(request).await.unwrap();
            if lease == 1 {
                queued(&cluster, leader, "name/1").await;
                client.lease.lease_revoke(LeaseRevokeRequest { id: 1 }).await.unwrap();
            }
        }
    };
    let (told, ()) = tokio::join!(observe, campaigns);
    let mut told = told.unwrap().into_inner();
    let last = tokio::time::timeout(PATIENCE, async {
        loop {
            let kv = told.message().await.unwrap().expect("the stream goes on").kv.unwrap();
            if kv.parse().unwrap().lease == 2 {
                return kv.parse().unwrap();
            }
        }
    });
    assert_eq!(&last.await.expect("nothing is told").value[..], b"2");
}
