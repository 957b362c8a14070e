//! Leases of one member: many that end at once, and what they cost.

use std::time::{Duration, Instant};

use harness::{Client, Node, NodeOptions, PATIENCE, Target};
use proto::etcdserverpb::{LeaseGrantRequest, LeaseLeasesRequest, PutRequest, RangeRequest};
use tokio::task::JoinSet;

use crate::watch::resident_bytes;

const LEASES: i64 = 10_000;
/// How many clients grant them.
const CLIENTS: i64 = 100;
/// All are granted before the first ends, also on a busy machine.
const TTL: i64 = 15;
/// As long as no put ever takes, nothing stalls: etcd's own bound for a warning is a tenth of it.
const PUT_TAKES_MAX: Duration = Duration::from_secs(1);

/// What a hundred thousand leases may cost in memory, all in all.
const GROWTH_BYTES_MAX: usize = 30 << 20;

async fn grant_all(node: &Node) {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = Client::connect(&node.endpoint()).await.unwrap();
        clients.spawn(async move {
            for id in (1..=LEASES).filter(|id| id % CLIENTS == number) {
                let request = LeaseGrantRequest { ttl: TTL, id };
                client.lease.lease_grant(request).await.unwrap();
                let key = format!("leased/{id:05}").into();
                let value = vec![b'v'; 64];
                let put = PutRequest { key, value, lease: id, ..Default::default() };
                client.kv.put(put).await.unwrap();
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_leases_that_end_at_once_do_not_hold_up_puts() {
    let node = Node::start_one(Target::from_env().unwrap()).unwrap();
    let begun = Instant::now();
    grant_all(&node).await;
    let granted = Instant::now();
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    let leases = client.lease.lease_leases(LeaseLeasesRequest {}).await.unwrap();
    assert_eq!(leases.get_ref().leases.len() as i64, LEASES);
    let (mut slowest, mut puts) = (Duration::ZERO, 0_u32);
    let mut first_ended = None;
    loop {
        let sent = Instant::now();
        let put = PutRequest { key: b"other".into(), value: b"v".into(), ..Default::default() };
        client.kv.put(put).await.unwrap();
        slowest = slowest.max(sent.elapsed());
        puts += 1;
        let left = RangeRequest {
            key: b"leased/".into(),
            range_end: b"leased0".into(),
            count_only: true,
            ..Default::default()
        };
        let left = client.kv.range(left).await.unwrap().get_ref().count;
        if left < LEASES && first_ended.is_none() {
            first_ended = Some(Instant::now());
            let early = Duration::from_secs(TTL as u64);
            assert!(begun.elapsed() >= early, "a lease ended after {:?}", begun.elapsed());
        }
        if left == 0 {
            break;
        }
        assert!(granted.elapsed() < PATIENCE, "{left} leases do not end");
    }
    let took = first_ended.unwrap().elapsed();
    eprintln!("{LEASES} leases ended within {took:.1?}; {puts} puts, the slowest {slowest:.1?}");
    assert!(slowest < PUT_TAKES_MAX, "a put took {slowest:?}");
    let leases = client.lease.lease_leases(LeaseLeasesRequest {}).await.unwrap();
    assert!(leases.get_ref().leases.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_leases_cost_little() {
    const MANY: i64 = 100_000;
    let target = Target::from_env().unwrap();
    let mut options = NodeOptions::new(target);
    if target == Target::Kvd {
        // A cache is as large as it is set, whatever is in it.
        options = options.arg("--log-cache-bytes=1MiB");
    }
    let node = Node::start(options).unwrap();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(&node.endpoint()).await.unwrap();
        // What a connection costs is no lease's.
        for _ in 0..CLIENTS {
            let put = PutRequest { key: b"key".into(), ..Default::default() };
            client.kv.put(put).await.unwrap();
        }
        clients.push(client);
    }
    let before = resident_bytes(&node);
    let mut grants = JoinSet::new();
    for (number, mut client) in (0..CLIENTS).zip(clients) {
        grants.spawn(async move {
            for n in (1..=MANY).filter(|n| n % CLIENTS == number) {
                // Ids as clients have them: anywhere.
                let id = n.wrapping_mul(0x1E37_79B9_7F4A_7C15) & i64::MAX;
                let request = LeaseGrantRequest { ttl: 3600, id };
                client.lease.lease_grant(request).await.unwrap();
            }
        });
    }
    grants.join_all().await;
    let after = resident_bytes(&node);
    let growth = after.saturating_sub(before);
    eprintln!("{MANY} leases: {} KiB more than {} KiB", growth >> 10, before >> 10);
    if target == Target::Kvd {
        assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes more");
    }
}
