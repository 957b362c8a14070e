//! Faults under load, and a checker that knows everything that clients were told.

use harness::history::author::Mix;
use harness::history::check::Summary;
use harness::history::trial::Trial;

use super::*;

/// Writes between two moments of a test.
const SOME: usize = 100;

fn trial() -> Trial {
    trial_with(ClusterOptions::new(Target::from_env().unwrap(), 3))
}

fn trial_with(options: ClusterOptions) -> Trial {
    let cluster = Cluster::start_with(options).unwrap_or_else(|error| panic!("{error:#}"));
    Trial::new(cluster, rand::random())
}

/// Waits until the clients have got on, from now.
async fn get_on(trial: &Trial) -> Duration {
    let writes = trial.crowd().wait_writes(SOME, Instant::now());
    match tokio::time::timeout(PATIENCE, writes).await {
        Ok(first) => first,
        Err(_) => panic!(
            "nobody writes\n{}\n{}",
            trial.cluster.describe().await,
            trial.cluster.log_tails()
        ),
    }
}

async fn check(trial: &mut Trial) -> Summary {
    match trial.check().await {
        Ok(summary) => summary,
        Err(error) => {
            let dirs = trial.cluster.keep_dirs();
            panic!("{error:#}\n{}\n{dirs:?}", trial.cluster.log_tails())
        }
    }
}

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
        get_on(&trial).await;
        trial.cluster.start_again(place).unwrap();
        get_on(&trial).await;
        let gap = trial.crowd().longest_gap(begin);
        let what = if led { "the leader" } else { "a follower" };
        eprintln!("no write for {gap:?} during the restart of {what}");
    }
    check(&mut trial).await;
}

/// Snapshots as often as can be, and nothing of the log behind them.
fn small_log() -> ClusterOptions {
    let target = Target::from_env().unwrap();
    let options = ClusterOptions::new(target, 3);
    match target {
        Target::Etcd => {
            options.arg("--snapshot-count=100").arg("--experimental-snapshot-catchup-entries=10")
        }
        Target::Kvd => options
            .arg("--recent-bytes-max=1MiB")
            .arg("--snapshot-log-bytes=1MiB")
            .arg("--log-retention-bytes=0"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_missed_too_much_gets_a_snapshot() {
    let mut trial = trial_with(small_log());
    trial.work(Mix::default());
    get_on(&trial).await;
    let leader = trial.cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    trial.cluster.kill(follower).unwrap();
    for _ in 0..20 {
        get_on(&trial).await;
    }
    trial.cluster.start_again(follower).unwrap();
    get_on(&trial).await;
    check(&mut trial).await;
}
