//! Disks that are slow, and files that are damaged or gone while their member is down.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;

/// Delays the return of each sync. `-D` keeps the server our own child.
fn slow_disk(millis: u32) -> Vec<String> {
    let inject = format!("inject=fdatasync,fsync:delay_exit={}", millis * 1000);
    let trace = "trace=fdatasync,fsync";
    ["strace", "-D", "-f", "-q", "--seccomp-bpf", "-e", trace, "-e", &inject, "-o", "/dev/null"]
        .map(str::to_owned)
        .to_vec()
}

fn can_slow_disks() -> bool {
    let found = Command::new("strace").arg("-V").output().is_ok();
    if !found {
        let _ = writeln!(std::io::stderr(), "skipped: there is no strace");
    }
    found
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_follower_holds_up_nobody() {
    if !can_slow_disks() {
        return;
    }
    let mut trial = trial();
    let leader = trial.cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    trial.cluster.stop(follower).unwrap();
    trial.cluster.node_mut(follower).options_mut().wrapper = slow_disk(200);
    trial.cluster.start_again(follower).unwrap();
    trial.work(Mix { writers: 1, readers: 0, compact: false, ..Mix::default() });
    let begin = Instant::now();
    get_on(&trial).await;
    let took = begin.elapsed();
    // One after the other: with the slow disk in each, these would take 20 s.
    eprintln!("{SOME} writes of one client in {took:?}, with a follower that syncs in 200 ms");
    assert!(took < 100 * Duration::from_millis(SOME as u64), "{took:?}");
    check(&mut trial).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_slow_disk_hands_over() {
    let target = Target::from_env().unwrap();
    // etcd's leader stays.
    if !can_slow_disks() || target == Target::Etcd {
        return;
    }
    let mut trial = trial();
    let slow = trial.cluster.leader().await.unwrap();
    trial.cluster.stop(slow).unwrap();
    trial.cluster.node_mut(slow).options_mut().wrapper = slow_disk(200);
    trial.cluster.start_again(slow).unwrap();
    trial.cluster.leader().await.unwrap();
    trial.cluster.move_leader(slow).await.unwrap();
    let begin = Instant::now();
    trial.work(Mix { compact: false, ..Mix::default() });
    let moved = async || {
        let leader = trial.cluster.leader().await.ok()?;
        (leader != slow).then_some(())
    };
    trial.cluster.wait("a member with a fast disk leads", moved).await.unwrap();
    eprintln!("a leader that syncs in 200 ms handed over after {:?}", begin.elapsed());
    for _ in 0..5 {
        get_on(&trial).await;
        assert_ne!(trial.cluster.leader().await.unwrap(), slow, "it does not lead again");
    }
    check(&mut trial).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_rebuilds_what_it_can_do_without() {
    // etcd has no such files.
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let mut trial = trial_with(small_log());
    trial.work(Mix::default());
    let leader = trial.cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    let written = async || (snapshots(&trial.cluster, follower).len() > 1).then_some(());
    trial.cluster.wait("the follower has two snapshot files", written).await.unwrap();
    let damages: [fn(&Cluster, usize); 4] = [
        |cluster, place| fs::remove_dir_all(cluster.node(place).data_dir().join("db")).unwrap(),
        |cluster, place| fs::remove_file(snapshots(cluster, place).last().unwrap()).unwrap(),
        |cluster, place| flip(snapshots(cluster, place).last().unwrap(), 5000),
        |cluster, place| {
            let db = cluster.node(place).data_dir().join("db");
            fs::write(db.join("metadata/damage"), "not of the engine").unwrap();
        },
    ];
    for damage in damages {
        trial.cluster.kill(follower).unwrap();
        get_on(&trial).await;
        damage(&trial.cluster, follower);
        trial.cluster.start_again(follower).unwrap_or_else(|error| panic!("{error:#}"));
        get_on(&trial).await;
    }
    check(&mut trial).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_damaged_log_says_how_it_is_replaced() {
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let mut trial = trial();
    trial.work(Mix::default());
    get_on(&trial).await;
    let leader = trial.cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    let id = trial.cluster.id(follower).await.unwrap();
    trial.cluster.kill(follower).unwrap();
    let wal = trial.cluster.node(follower).data_dir().join("wal");
    let mut segments: Vec<PathBuf> =
        fs::read_dir(wal).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    segments.sort();
    // Far from the end, which a power cut may have torn.
    flip(&segments[0], 3000);
    trial.cluster.spawn(follower).unwrap();
    let status = trial.cluster.wait_exit(follower).unwrap();
    assert_eq!(status.code(), Some(1));
    let said = trial.cluster.node(follower).log_tail();
    for due in [&segments[0].display().to_string(), "member remove", "member add"] {
        assert!(said.contains(due), "it says {due}:\n{said}");
    }
    assert!(said.contains(&format!("{id:x}")), "it says which member it was, {id:x}:\n{said}");
    get_on(&trial).await;
    trial.cluster.replace(follower, leader).await.unwrap_or_else(|error| panic!("{error:#}"));
    get_on(&trial).await;
    check(&mut trial).await;
}
