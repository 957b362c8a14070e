//! Leases of one member: many that end at once, and what they cost.

use std::time::{Duration, Instant};

use harness::{Client, Node, PATIENCE, Target};
use proto::etcdserverpb::{LeaseGrantRequest, LeaseLeasesRequest, PutRequest, RangeRequest};
use tokio::task::JoinSet;

const LEASES: i64 = 10_000;
/// How many clients grant them.
const CLIENTS: i64 = 100;
/// All are granted before the first ends, also on a busy machine.
const TTL: i64 = 15;
/// As long as no put ever takes, nothing stalls: etcd's own bound for a warning is a tenth of it.
const PUT_TAKES_MAX: Duration = Duration::from_secs(1);

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
