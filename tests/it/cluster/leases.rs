//! Leases while leaders come and go: none ends before its time, and none without a reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use tokio::task::JoinHandle;

use super::*;

/// Of the leases here. Long enough for an election, short enough to wait for.
const TTL: Duration = Duration::from_secs(4);
/// Between two keepalives.
const EVERY: Duration = Duration::from_millis(300);
/// A member that says nothing for so long is left for another.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How late a lease may end after an election: its time, an election and a few looks.
const LATE: Duration = Duration::from_secs(10);

/// A lease with a key of its name, granted at whatever member can.
async fn grant(cluster: &Cluster, id: i64, ttl: Duration) {
    let grant = async || {
        let place = *cluster.awake().first()?;
        let mut client = cluster.client(place).await.ok()?;
        let request = LeaseGrantRequest { ttl: ttl.as_secs() as i64, id };
        match client.lease.lease_grant(request).await {
            Ok(_) => {}
            Err(status) if status.message().contains("already exists") => {}
            Err(_) => return None,
        }
        let put = PutRequest { key: key(id), value: b"v".into(), lease: id, ..Default::default() };
        client.kv.put(put).await.ok()
    };
    cluster.wait("a lease is granted", grant).await.unwrap();
}

fn key(id: i64) -> Vec<u8> {
    format!("lease/{id}").into()
}

/// One keepalive; the time to live that was answered in time.
async fn keep(endpoint: &str, id: i64) -> Option<i64> {
    let ask = async {
        let mut client = Client::connect(endpoint).await.ok()?;
        let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
        let mut answers = client.lease.lease_keep_alive(requests).await.ok()?.into_inner();
        Some(answers.message().await.ok()??.ttl)
    };
    tokio::time::timeout(ANSWER_WITHIN, ask).await.ok()?
}

async fn time_to_live(cluster: &Cluster, place: usize, id: i64) -> LeaseTimeToLiveResponse {
    let ask = async || {
        let mut client = cluster.client(place).await.ok()?;
        let request = LeaseTimeToLiveRequest { id, keys: true };
        Some(client.lease.lease_time_to_live(request).await.ok()?.into_inner())
    };
    cluster.wait("a lease is told of", ask).await.unwrap()
}

/// A client that keeps a lease at whatever member answers.
struct Keeper {
    stop: Arc<AtomicBool>,
    /// Ends with when the last keepalive was sent that was answered.
    task: JoinHandle<Instant>,
}

impl Keeper {
    fn start(cluster: &Cluster, id: i64) -> Self {
        let endpoints = cluster.endpoints();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut at, mut kept) = (0, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                let sent = Instant::now();
                match keep(&endpoints[at], id).await {
                    Some(0) => panic!("lease {id} ended {:?} after a keepalive", kept.elapsed()),
                    Some(_) => kept = sent,
                    None => {}
                }
                // All members are asked in turn.
                at = (at + 1) % endpoints.len();
                tokio::time::sleep(EVERY).await;
            }
            kept
        });
        Self { stop, task }
    }

    async fn stop(self) -> Instant {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Waits until the key of a lease is gone. When that was seen.
async fn gone(cluster: &Cluster, id: i64) -> Instant {
    let look = async || {
        let place = *cluster.awake().first()?;
        let mut client = cluster.client(place).await.ok()?;
        let name = String::from_utf8(key(id)).unwrap();
        try_get(&mut client, &name).await.ok()?.is_none().then(Instant::now)
    };
    cluster.wait("a lease ends", look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_keeps_and_tells_of_a_lease() {
    let cluster = start();
    grant(&cluster, 7, TTL).await;
    for place in cluster.places() {
        let endpoint = cluster.node(place).endpoint();
        let kept = async || keep(&endpoint, 7).await;
        assert_eq!(cluster.wait("a keepalive is answered", kept).await.unwrap(), 4);
        assert_eq!(keep(&endpoint, 8).await, Some(0));
        let told = time_to_live(&cluster, place, 7).await;
        assert_eq!((told.granted_ttl, told.keys), (4, vec![key(7)]));
        assert!((2..=5).contains(&told.ttl), "{}", told.ttl);
        let unknown = time_to_live(&cluster, place, 8).await;
        assert_eq!((unknown.ttl, unknown.granted_ttl), (-1, 0));
    }
    gone(&cluster, 7).await;
    for place in cluster.places() {
        assert_eq!(time_to_live(&cluster, place, 7).await.ttl, -1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_kept_outlives_leaders() {
    let mut cluster = start();
    grant(&cluster, 7, TTL).await;
    let keeper = Keeper::start(&cluster, 7);

    let leader = cluster.leader().await.unwrap();
    cluster.kill(leader).unwrap();
    cluster.leader().await.unwrap();
    tokio::time::sleep(TTL + TTL).await;
    cluster.start_again(leader).unwrap();
    assert_eq!(get(&cluster, leader, "lease/7").await.as_deref(), Some("v"));

    // A leader that sleeps longer than the lease lasts, and wakes up.
    let leader = cluster.leader().await.unwrap();
    cluster.pause(leader).unwrap();
    tokio::time::sleep(TTL + TTL).await;
    cluster.resume(leader).unwrap();
    cluster.leader().await.unwrap();
    tokio::time::sleep(TTL).await;
    assert_eq!(get(&cluster, leader, "lease/7").await.as_deref(), Some("v"));

    // One that is cut off for longer than that: it neither keeps the lease nor ends it.
    let leader = cluster.leader().await.unwrap();
    cluster.cut_off(leader);
    let others: Vec<usize> = cluster.places().filter(|place| *place != leader).collect();
    cluster.leader_of(&others).await.unwrap();
    let deaf = cluster.node(leader).endpoint();
    let begun = Instant::now();
    while begun.elapsed() < TTL + TTL {
        assert_eq!(keep(&deaf, 7).await, None);
    }
    cluster.heal();
    assert_eq!(get(&cluster, leader, "lease/7").await.as_deref(), Some("v"));

    for place in cluster.places() {
        cluster.kill(place).unwrap();
    }
    cluster.start_all().unwrap();
    tokio::time::sleep(TTL).await;
    let told = time_to_live(&cluster, leader, 7).await;
    assert_eq!(told.keys, [key(7)]);

    let kept = keeper.stop().await;
    let ended = gone(&cluster, 7).await;
    assert!(ended - kept >= TTL, "ended after {:?}", ended - kept);
    assert!(ended - kept <= TTL + LATE, "ended after {:?}", ended - kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_ends_early_whatever_happens_to_leaders() {
    const LEASES: i64 = 12;
    let mut cluster = start();
    let mut leases = Vec::new();
    for id in 1..=LEASES {
        let granted = Instant::now();
        grant(&cluster, id, TTL).await;
        // Some are never kept.
        let keeper = (id % 3 != 0).then(|| Keeper::start(&cluster, id));
        leases.push((id, granted, keeper));
    }
    for fault in 0..3 {
        let leader = cluster.leader().await.unwrap();
        match fault {
            0 => cluster.kill(leader).unwrap(),
            1 => cluster.pause(leader).unwrap(),
            _ => drop(cluster.stop(leader).unwrap()),
        }
        cluster.leader().await.unwrap();
        // A third of the clients goes each time, just after an election.
        for (id, granted, keeper) in &mut leases {
            if *id % 3 == fault
                && let Some(keeper) = keeper.take()
            {
                *granted = keeper.stop().await;
            }
        }
        match fault {
            1 => cluster.resume(leader).unwrap(),
            _ => cluster.start_again(leader).unwrap(),
        }
    }
    for (id, granted, keeper) in leases {
        let kept = match keeper {
            Some(keeper) => keeper.stop().await,
            None => granted,
        };
        let ended = gone(&cluster, id).await;
        assert!(ended - kept >= TTL, "lease {id} ended after {:?}", ended - kept);
    }
}
