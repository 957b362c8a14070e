//! Leases, and what is built on them: locks and elections.

use std::time::{Duration, Instant};

use etcd_client::{
    Compare, CompareOp, EventType, LeaseTimeToLiveOptions, LockOptions, ProclaimOptions,
    PutOptions, ResignOptions, Txn, TxnOp,
};

use crate::{Target, events, refusal, soon};

pub async fn lease_grant_to_revoke(target: Target) {
    let mut client = target.client().await;
    let granted = client.lease_grant(60, None).await.unwrap();
    assert_eq!(granted.ttl(), 60);
    let id = granted.id();
    for key in ["lease/a", "lease/b"] {
        let options = PutOptions::new().with_lease(id);
        client.put(key, "1", Some(options)).await.unwrap();
    }
    assert_eq!(client.get("lease/a", None).await.unwrap().kvs()[0].lease(), id);
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(id, Some(options)).await.unwrap();
    assert_eq!(left.granted_ttl(), 60);
    assert!((1..=60).contains(&left.ttl()));
    let mut keys = left.keys().to_vec();
    keys.sort();
    assert_eq!(keys, [b"lease/a", b"lease/b"]);
    assert!(client.leases().await.unwrap().leases().iter().any(|lease| lease.id() == id));

    let (mut keeper, mut answers) = client.lease_keep_alive(id).await.unwrap();
    for _ in 0..3 {
        keeper.keep_alive().await.unwrap();
        let answer = soon(answers.message()).await.unwrap().unwrap();
        assert_eq!((answer.id(), answer.ttl()), (id, 60));
    }
    client.lease_revoke(id).await.unwrap();
    assert_eq!(client.get("lease/a", None).await.unwrap().count(), 0);
    assert_eq!(client.lease_time_to_live(id, None).await.unwrap().ttl(), -1);
    keeper.keep_alive().await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().ttl(), 0);
    let refused = refusal(client.lease_revoke(id).await);
    assert_eq!(refused, (5, "etcdserver: requested lease not found".to_owned()));
}

/// Keys go when their lease ends, all in one revision, and not before.
pub async fn lease_expiry(target: Target) {
    let mut client = target.client().await;
    let mut stream =
        client.watch("ends/", Some(etcd_client::WatchOptions::new().with_prefix())).await.unwrap();
    let began = Instant::now();
    let granted = client.lease_grant(4, None).await.unwrap();
    for key in ["ends/a", "ends/b"] {
        let options = PutOptions::new().with_lease(granted.id());
        client.put(key, "1", Some(options)).await.unwrap();
    }
    let found = events(&mut stream, 4).await;
    let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap());
    assert!(began.elapsed() >= ttl, "{:?} of {ttl:?}", began.elapsed());
    let ends: Vec<_> = found[2..]
        .iter()
        .map(|event| (event.event_type(), event.kv().unwrap().mod_revision()))
        .collect();
    assert!(ends.iter().all(|end| *end == (EventType::Delete, ends[0].1)), "{ends:?}");
}

pub async fn locks(target: Target) {
    let mut client = target.client().await;
    let first = client.lock("lock", None).await.unwrap();
    assert!(first.key().starts_with(b"lock/"));
    let mut other = target.client().await;
    let waiting = tokio::spawn(async move { other.lock("lock", None).await.unwrap() });
    // The second is in the queue, and the first has the lock still.
    let options = etcd_client::GetOptions::new().with_prefix();
    soon(async {
        while client.get("lock/", Some(options.clone())).await.unwrap().count() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!waiting.is_finished());
    let held = Compare::create_revision(first.key(), CompareOp::Greater, 0);
    let txn = Txn::new().when([held]).and_then([TxnOp::put("guarded", "1", None)]);
    assert!(client.txn(txn).await.unwrap().succeeded());
    client.unlock(first.key()).await.unwrap();
    let second = soon(waiting).await.unwrap();
    assert_ne!(second.key(), first.key());
    client.unlock(second.key()).await.unwrap();
    assert_eq!(client.get("lock/", Some(options)).await.unwrap().count(), 0);
}

pub async fn lock_of_a_lease_that_ends(target: Target) {
    let mut client = target.client().await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let options = LockOptions::new().with_lease(lease);
    let first = client.lock("lost", Some(options.clone())).await.unwrap();
    assert_eq!(client.get(first.key(), None).await.unwrap().kvs()[0].lease(), lease);
    let mut other = target.client().await;
    let waiting = tokio::spawn(async move { other.lock("lost", None).await.unwrap() });
    client.lease_revoke(lease).await.unwrap();
    let second = soon(waiting).await.unwrap();
    client.unlock(second.key()).await.unwrap();
    let refused = refusal(client.lock("lost", Some(options)).await);
    // These services answer with the code Unknown, whatever it is.
    assert_eq!(refused, (2, "etcdserver: requested lease not found".to_owned()));
}

pub async fn elections(target: Target) {
    let mut client = target.client().await;
    let refused = refusal(client.leader("election").await);
    assert_eq!(refused, (2, "election: no leader".to_owned()));
    let mut leases = Vec::new();
    for _ in 0..2 {
        leases.push(client.lease_grant(60, None).await.unwrap().id());
    }
    let won = client.campaign("election", "one", leases[0]).await.unwrap();
    let leader = won.leader().unwrap();
    assert_eq!((leader.name(), leader.lease()), (&b"election"[..], leases[0]));
    let mut seen = client.observe("election").await.unwrap();
    let mut next = async || {
        let answer = soon(seen.message()).await.unwrap().unwrap();
        answer.kv().unwrap().value_str().unwrap().to_owned()
    };
    assert_eq!(next().await, "one");
    let options = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("uno", Some(options.clone())).await.unwrap();
    assert_eq!(next().await, "uno");

    let (mut other, lease) = (target.client().await, leases[1]);
    let waiting =
        tokio::spawn(async move { other.campaign("election", "two", lease).await.unwrap() });
    let found = client.leader("election").await.unwrap();
    assert_eq!(found.kv().unwrap().value(), b"uno");
    assert!(!waiting.is_finished());
    let resign = ResignOptions::new().with_leader(leader.clone());
    client.resign(Some(resign)).await.unwrap();
    let second = soon(waiting).await.unwrap();
    assert_eq!(next().await, "two");
    let refused = refusal(client.proclaim("late", Some(options)).await);
    assert_eq!(refused, (2, "election: not leader".to_owned()));
    assert_eq!(second.leader().unwrap().lease(), lease);
    client.lease_revoke(lease).await.unwrap();
    refusal(client.leader("election").await);
}
