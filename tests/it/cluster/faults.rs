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

/// How long a member may stand still, and what it must not do then.
const PAUSE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_paused_answers_nothing_stale() {
    const FAITHFUL: u64 = 12;
    let mut trial = trial();
    let leader = trial.cluster.leader().await.unwrap();
    // Calls that it gets while it stands still are answered the moment it goes on, before it can
    // have heard of anybody else.
    trial.work(Mix { readers: 4, faithful: (leader, FAITHFUL), ..Mix::default() });
    get_on(&trial).await;
    trial.crowd().wait_reads(leader, FAITHFUL).await;
    let leads = async || match trial.cluster.leader().await.ok()? == leader {
        true => Some(()),
        false => trial.cluster.move_leader(leader).await.err().and(None),
    };
    trial.cluster.wait("it leads", leads).await.unwrap();
    trial.cluster.pause(leader).unwrap();
    let paused = Instant::now();
    let first = get_on(&trial).await;
    eprintln!("first write {first:?} after SIGSTOP of the leader");
    while paused.elapsed() < PAUSE {
        get_on(&trial).await;
    }
    trial.cluster.resume(leader).unwrap();
    trial.crowd().wait_reads(leader, 5 * FAITHFUL).await;
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
