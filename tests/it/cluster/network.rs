//! Members that do not hear each other.

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use tokio_stream::StreamExt;
use tonic::Code;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_serves_everything() {
    let cluster = start();
    for place in cluster.places() {
        let value = place.to_string();
        put(&cluster, place, "a", &value).await;
        for reader in cluster.places() {
            assert_eq!(get(&cluster, reader, "a").await, Some(value.clone()));
        }
    }
    assert_eq!(cluster.wait_in_step().await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_cut_off_comes_back_without_an_election() {
    // On a machine that is busy with other things, a second without a heartbeat is no rarity.
    let options = ClusterOptions::new(Target::from_env().unwrap(), 3);
    let cluster = Cluster::start_with(options.arg("--election-timeout=4000")).unwrap();
    let leader = cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    put(&cluster, leader, "a", "1").await;
    let term = cluster.term(leader).await.unwrap();
    cluster.cut_off(follower);
    // It notices: nobody leads it any longer.
    let alone = async || (cluster.status(follower).await?.leader == 0).then_some(());
    cluster.wait("the follower misses its leader", alone).await.unwrap();
    let mut writer = cluster.client(follower).await.unwrap();
    let mut reader = cluster.client(follower).await.unwrap();
    let (write, read) = tokio::join!(try_put(&mut writer, "a", "2"), try_get(&mut reader, "a"));
    assert!(write.is_err(), "it has no quorum");
    assert!(read.is_err(), "it cannot know the newest value");
    put(&cluster, leader, "a", "3").await;
    cluster.heal();
    assert_eq!(cluster.leader().await.unwrap(), leader, "nobody had a reason to elect another");
    assert_eq!(get(&cluster, follower, "a").await, Some("3".to_owned()));
    cluster.wait_in_step().await.unwrap();
    for place in cluster.places() {
        assert_eq!(cluster.term(place).await.unwrap(), term, "pre-vote keeps the term");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_cut_off_steps_down() {
    let cluster = start();
    let old = cluster.leader().await.unwrap();
    put(&cluster, old, "a", "1").await;
    let others: Vec<usize> = cluster.places().filter(|place| *place != old).collect();
    cluster.cut_off(old);
    let mut client = cluster.client(old).await.unwrap();
    assert!(try_put(&mut client, "a", "lost").await.is_err(), "it has no quorum");
    let new = cluster.leader_of(&others).await.unwrap();
    put(&cluster, new, "a", "2").await;
    assert!(try_get(&mut client, "a").await.is_err(), "it cannot know the newest value");
    let stepped_down = async || (cluster.status(old).await?.leader == 0).then_some(());
    cluster.wait("the old leader steps down", stepped_down).await.unwrap();
    cluster.heal();
    cluster.leader().await.unwrap();
    assert_eq!(get(&cluster, old, "a").await, Some("2".to_owned()));
    cluster.wait_in_step().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_is_replaced() {
    let cluster = start();
    let old = cluster.leader().await.unwrap();
    put(&cluster, old, "a", "1").await;
    let others: Vec<usize> = cluster.places().filter(|place| *place != old).collect();
    // Its heartbeats arrive, answers do not.
    for other in &others {
        cluster.cut(*other, old);
    }
    let new = cluster.leader_of(&others).await.unwrap();
    put(&cluster, new, "a", "2").await;
    let mut client = cluster.client(old).await.unwrap();
    let stale = try_get(&mut client, "a").await;
    assert!(stale.is_err(), "it hears of no quorum, but reads {stale:?}");
    cluster.heal();
    cluster.leader().await.unwrap();
    assert_eq!(get(&cluster, old, "a").await, Some("2".to_owned()));
    cluster.wait_in_step().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_hears_is_replaced() {
    let cluster = start();
    let old = cluster.leader().await.unwrap();
    put(&cluster, old, "a", "1").await;
    let others: Vec<usize> = cluster.places().filter(|place| *place != old).collect();
    for other in &others {
        cluster.cut(old, *other);
    }
    let new = cluster.leader_of(&others).await.unwrap();
    put(&cluster, new, "a", "2").await;
    let mut client = cluster.client(old).await.unwrap();
    let stale = try_get(&mut client, "a").await;
    assert!(stale.is_err() || stale.as_ref().is_ok_and(|value| value.as_deref() == Some("2")));
    cluster.heal();
    cluster.leader().await.unwrap();
    assert_eq!(get(&cluster, old, "a").await, Some("2".to_owned()));
    cluster.wait_in_step().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_through_its_replacement_reads_nothing_stale() {
    const READERS: usize = 32;
    let mut cluster = start();
    let old = cluster.leader().await.unwrap();
    put(&cluster, old, "a", "1").await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = cluster.client(old).await.unwrap();
        assert_eq!(try_get(&mut reader, "a").await.unwrap().as_deref(), Some("1"));
        readers.push(reader);
    }
    cluster.pause(old).unwrap();
    // Nobody is going to tell it what happened.
    cluster.cut_off(old);
    let others: Vec<usize> = cluster.places().filter(|place| *place != old).collect();
    let new = cluster.leader_of(&others).await.unwrap();
    put(&cluster, new, "a", "2").await;
    let reads: Vec<_> = readers
        .into_iter()
        .map(|mut reader| tokio::spawn(async move { try_get(&mut reader, "a").await }))
        .collect();
    // They wait in its sockets, and it still takes itself for the leader when it finds them there.
    tokio::time::sleep(ELECTION_TIMEOUT / 2).await;
    cluster.resume(old).unwrap();
    for read in reads {
        let read = read.await.unwrap();
        assert!(read.is_err(), "it hears of no quorum, but reads {read:?}");
    }
    cluster.heal();
    assert_eq!(get(&cluster, old, "a").await, Some("2".to_owned()));
    cluster.wait_in_step().await.unwrap();
}

/// A call by whoever would rather have an error than an answer of a member without a leader.
fn led<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_a_leader_is_told_that_there_is_none() {
    const NO_LEADER: &str = "etcdserver: no leader";
    let cluster = start();
    let leader = cluster.leader().await.unwrap();
    let place = (leader + 1) % 3;
    put(&cluster, place, "a", "1").await;
    let mut client = cluster.client(place).await.unwrap();
    let local = || RangeRequest { key: b"a".into(), serializable: true, ..RangeRequest::default() };
    let create = WatchCreateRequest { key: b"a".into(), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let watch = || tokio_stream::once(create.clone()).chain(tokio_stream::pending());
    client.kv.range(led(local())).await.unwrap();
    let mut asks = client.watch.watch(led(watch())).await.unwrap().into_inner();
    let mut does_not_ask = client.watch.watch(watch()).await.unwrap().into_inner();
    assert!(asks.message().await.unwrap().unwrap().created);
    assert!(does_not_ask.message().await.unwrap().unwrap().created);
    cluster.cut_off(place);
    let alone = async || (cluster.status(place).await?.leader == 0).then_some(());
    cluster.wait("the follower misses its leader", alone).await.unwrap();

    client.kv.range(local()).await.unwrap();
    let status = client.kv.range(led(local())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, NO_LEADER));
    let status = client.watch.watch(led(watch())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, NO_LEADER));
    let status = asks.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, NO_LEADER));
    // Whoever does not ask waits, and is told after a while; nothing has happened.
    let write = PutRequest { key: b"b".into(), ..PutRequest::default() };
    let status = client.kv.put(write).await.unwrap_err();
    let told = (status.code(), status.message());
    assert_eq!(told, (Code::DeadlineExceeded, "context deadline exceeded"));
    let status = client.kv.range(RangeRequest { serializable: false, ..local() }).await;
    let status = status.unwrap_err();
    let told = (status.code(), status.message());
    assert_eq!(told, (Code::Unavailable, "etcdserver: request timed out"));

    cluster.heal();
    put(&cluster, leader, "a", "2").await;
    let events = does_not_ask.message().await.unwrap().unwrap().events;
    assert_eq!(events.len(), 1);
    assert_eq!(get(&cluster, place, "b").await, None);
    cluster.wait_in_step().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_cut_off_from_the_leader_alone_does_not_unseat_it() {
    let cluster = start();
    let leader = cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    put(&cluster, leader, "a", "1").await;
    let term = cluster.term(leader).await.unwrap();
    cluster.cut(leader, follower);
    // The third still hears the leader, and says no to whoever asks for its vote.
    let alone = async || (cluster.status(follower).await?.leader == 0).then_some(());
    cluster.wait("the follower misses its leader", alone).await.unwrap();
    let begin = Instant::now();
    while begin.elapsed() < 3 * ELECTION_TIMEOUT {
        put(&cluster, leader, "a", "2").await;
        assert_eq!(cluster.term(leader).await.unwrap(), term, "pre-vote keeps the term");
    }
    cluster.heal();
    assert_eq!(cluster.leader().await.unwrap(), leader);
    assert_eq!(get(&cluster, follower, "a").await, Some("2".to_owned()));
    cluster.wait_in_step().await.unwrap();
}
