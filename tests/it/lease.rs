//! Leases of one member: many that end at once, and what they cost.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use harness::{Client, Node, NodeOptions, PATIENCE, Target};
use proto::etcdserverpb::{LeaseGrantRequest, LeaseLeasesRequest, PutRequest, RangeRequest};
use tokio::task::JoinSet;

use crate::watch::resident_bytes;

/// How many clients grant them.
const CLIENTS: i64 = 100;
/// Leases that may end between two puts of one client: as many as the leader takes up in a second.
const ENDED_BETWEEN_PUTS_MAX: i64 = 1_000;

/// What a hundred thousand leases may cost in memory, all in all.
const GROWTH_BYTES_MAX: usize = 30 << 20;

/// How many end at once: `KVD_LEASES=50000` for more of them.
fn leases() -> i64 {
    std::env::var("KVD_LEASES").map_or(10_000, |leases| leases.parse().unwrap())
}

/// Grants them with a key each. How long that took.
async fn grant(node: &Node, ids: RangeInclusive<i64>, ttl: i64, prefix: &'static str) -> Duration {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = Client::connect(&node.endpoint()).await.unwrap();
        let ids = ids.clone();
        clients.spawn(async move {
            for id in ids.filter(|id| id % CLIENTS == number) {
                let request = LeaseGrantRequest { ttl, id };
                client.lease.lease_grant(request).await.unwrap();
                let key = format!("{prefix}/{id:05}").into();
                let value = vec![b'v'; 64];
                let put = PutRequest { key, value, lease: id, ..Default::default() };
                client.kv.put(put).await.unwrap();
            }
        });
    }
    clients.join_all().await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_leases_that_end_at_once_do_not_hold_up_puts() {
    let node = Node::start_one(Target::from_env().unwrap()).unwrap();
    let (count, tried) = (leases(), leases() / 10);
    // So long that none ends before all are granted, on this machine as busy as it is.
    let a_tenth = grant(&node, count + 1..=count + tried, 36_000, "tried").await;
    let ends_after = Duration::from_secs(5) + 30 * a_tenth;
    let begun = Instant::now();
    grant(&node, 1..=count, ends_after.as_secs() as i64, "leased").await;
    let granted = Instant::now();
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    let listed = client.lease.lease_leases(LeaseLeasesRequest {}).await.unwrap();
    assert_eq!(listed.get_ref().leases.len() as i64, count + tried);
    let (mut slowest, mut puts) = (Duration::ZERO, 0_i64);
    let mut first_ended = None;
    loop {
        let sent = Instant::now();
        let put = PutRequest { key: b"other".into(), value: b"v".into(), ..Default::default() };
        client.kv.put(put).await.unwrap();
        if first_ended.is_some() {
            slowest = slowest.max(sent.elapsed());
            puts += 1;
        }
        let left = RangeRequest {
            key: b"leased/".into(),
            range_end: b"leased0".into(),
            count_only: true,
            ..Default::default()
        };
        let left = client.kv.range(left).await.unwrap().get_ref().count;
        if left < count && first_ended.is_none() {
            first_ended = Some(Instant::now());
            let least = Duration::from_secs(ends_after.as_secs());
            assert!(begun.elapsed() >= least, "a lease ended after {:?}", begun.elapsed());
        }
        if left == 0 {
            break;
        }
        assert!(granted.elapsed() < ends_after + PATIENCE, "{left} leases do not end");
    }
    let took = first_ended.unwrap().elapsed();
    eprintln!("{count} leases ended within {took:.1?}; {puts} puts, the slowest {slowest:.1?}");
    assert!(puts >= count / ENDED_BETWEEN_PUTS_MAX, "{puts} puts while {count} leases ended");
    let listed = client.lease.lease_leases(LeaseLeasesRequest {}).await.unwrap();
    assert_eq!(listed.get_ref().leases.len() as i64, tried);
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

/// The library that lets a process see another time, if it is installed.
fn faketime() -> Option<std::path::PathBuf> {
    let dirs = std::fs::read_dir("/usr/lib").unwrap().flatten();
    dirs.map(|dir| dir.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// Whoever sets the clock, forward or back, ends no lease and lets none live on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_do_not_go_by_the_clock_on_the_wall() {
    let Some(library) = faketime() else {
        eprintln!("SKIPPED: there is no libfaketime (apt-get install faketime)");
        return;
    };
    // Go asks the kernel itself.
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let clock = dir.path().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    let mut node = Node::start(
        NodeOptions::new(Target::Kvd)
            .env("LD_PRELOAD", &library.display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    )
    .unwrap();
    let mut client = Client::connect(&node.endpoint()).await.unwrap();
    for (id, ttl, set) in [(5, 4, "+400d"), (6, 2, "-400d")] {
        let granted = Instant::now();
        client.lease.lease_grant(LeaseGrantRequest { ttl, id }).await.unwrap();
        let key = id.to_string().into_bytes();
        let put = PutRequest { key: key.clone(), lease: id, ..Default::default() };
        client.kv.put(put).await.unwrap();
        std::fs::write(&clock, set).unwrap();
        let range = RangeRequest { key, count_only: true, ..Default::default() };
        while client.kv.range(range.clone()).await.unwrap().get_ref().count > 0 {
            assert!(granted.elapsed() < PATIENCE, "the lease does not end after {set}");
            tokio::task::yield_now().await;
        }
        let lived = granted.elapsed();
        assert!(lived >= Duration::from_secs(ttl as u64), "{lived:?} after {set}");
    }
    // The process believes it: its last line is of the past.
    node.stop().unwrap();
    let log = node.log();
    let year = |line: &str| line.get(..4).and_then(|year| year.parse::<u32>().ok());
    let years: Vec<u32> = log.lines().filter_map(year).collect();
    assert!(years.last() < years.first(), "{log}");
}
