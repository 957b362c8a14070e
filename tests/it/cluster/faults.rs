//! Faults under load, and a checker that knows everything that clients were told.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_loses_nothing() {
    let mut trial = trial();
    trial.work(Mix::default());
    get_on(&trial).await;
    let leader = trial.cluster.leader().await.unwrap();
    trial.cluster.kill(leader).unwrap();
    let first = get_on(&trial).await;
    eprintln!("first write {first:?} after kill -9 of the leader");
    trial.cluster.start_again(leader).unwrap();
    get_on(&trial).await;
    check(&mut trial).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_paused_answers_nothing_stale() {
    let mut trial = trial();
    trial.work(Mix { readers: 6, ..Mix::default() });
    get_on(&trial).await;
    let leader = trial.cluster.leader().await.unwrap();
    // Long enough that others lead and write, and it does not know when it wakes up.
    trial.cluster.pause(leader).unwrap();
    let first = get_on(&trial).await;
    eprintln!("first write {first:?} after SIGSTOP of the leader");
    trial.cluster.leader().await.unwrap();
    trial.cluster.resume(leader).unwrap();
    get_on(&trial).await;
    check(&mut trial).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_cut_loses_nothing() {
    let mut trial = trial();
    trial.work(Mix::default());
    get_on(&trial).await;
    let places = trial.cluster.places();
    let leader = trial.cluster.leader().await.unwrap();
    trial.cluster.cut_off(leader);
    let first = get_on(&trial).await;
    eprintln!("first write {first:?} after the leader was cut off");
    trial.cluster.heal();
    get_on(&trial).await;
    let leader = trial.cluster.leader().await.unwrap();
    places.clone().filter(|other| *other != leader).for_each(|other| {
        trial.cluster.cut(other, leader);
    });
    let first = get_on(&trial).await;
    eprintln!("first write {first:?} after the leader became deaf");
    trial.cluster.heal();
    get_on(&trial).await;
    let leader = trial.cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    trial.cluster.cut_off(follower);
    get_on(&trial).await;
    trial.cluster.heal();
    get_on(&trial).await;
    check(&mut trial).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_killed_at_once_lose_nothing() {
    let mut trial = trial();
    for last_is_first in [false, true] {
        trial.work(Mix::default());
        get_on(&trial).await;
        let mut places: Vec<usize> = trial.cluster.places().collect();
        for place in &places {
            trial.cluster.kill(*place).unwrap();
        }
        if last_is_first {
            places.reverse();
        }
        // The first two elect; the third finds them at work.
        trial.cluster.spawn(places[0]).unwrap();
        trial.cluster.spawn(places[1]).unwrap();
        trial.cluster.leader().await.unwrap();
        trial.cluster.start_again(places[2]).unwrap();
        get_on(&trial).await;
        check(&mut trial).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_is_hardly_noticed() {
    let mut trial = trial();
    trial.work(Mix::default());
    get_on(&trial).await;
    let leader = trial.cluster.leader().await.unwrap();
    for place in [leader, (leader + 1) % 3, (leader + 2) % 3] {
        let begin = Instant::now();
        let led = trial.cluster.leader().await.unwrap() == place;
        trial.cluster.stop(place).unwrap();
        let stopped = begin.elapsed();
        get_on(&trial).await;
        let again = begin.elapsed();
        trial.cluster.start_again(place).unwrap();
        get_on(&trial).await;
        let (at, gap) = trial.crowd().longest_gap(begin);
        let what = if led { "the leader" } else { "a follower" };
        eprintln!(
            "no write for {gap:.0?}, from {at:.0?} on, when {what} was stopped, which took \
             {stopped:.0?}, and started after {again:.0?}"
        );
    }
    check(&mut trial).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_missed_too_much_gets_a_snapshot() {
    const TIMES: usize = 2;
    let target = Target::from_env().unwrap();
    let mut trial = trial_with(small_log());
    trial.work(Mix::default());
    get_on(&trial).await;
    let leader = trial.cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    // More than once: what a snapshot leaves behind must not be in the way of the next.
    for _ in 0..TIMES {
        let had = trial.cluster.status(follower).await.unwrap().raft_index;
        trial.cluster.kill(follower).unwrap();
        match target {
            Target::Etcd => get_on(&trial).await,
            // Both snapshot files are newer than the follower.
            Target::Kvd => loop {
                let first = get_on(&trial).await;
                let files = snapshots(&trial.cluster, leader);
                if files.len() > 1 && snapshot_index(&files[0]) > had {
                    break first;
                }
            },
        };
        trial.cluster.start_again(follower).unwrap();
        get_on(&trial).await;
    }
    check(&mut trial).await;
    if target == Target::Kvd {
        let log = trial.cluster.node(follower).log();
        let received = log.matches("receiving a snapshot file").count();
        // What is not purged yet may still come from the log.
        eprintln!("{received} snapshots were received in {TIMES} times");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_data_is_replaced() {
    let mut trial = trial();
    trial.work(Mix::default());
    get_on(&trial).await;
    let leader = trial.cluster.leader().await.unwrap();
    for place in [(leader + 1) % 3, leader] {
        let by = (place + 1) % 3;
        trial.cluster.replace(place, by).await.unwrap_or_else(|error| panic!("{error:#}"));
        get_on(&trial).await;
    }
    check(&mut trial).await;
    assert_eq!(trial.cluster.members().await.unwrap().len(), 3);
}
