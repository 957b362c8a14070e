//! Logs that are kept short, and members that need a snapshot because of it.

use harness::lag::{self, Absence, Lag};
use proto::etcdserverpb::{CompactionRequest, SnapshotRequest};
use proto::internal::Vote;
use proto::peer::peer_client::PeerClient;
use proto::peer::{Identity, SnapshotHead, SnapshotPiece, snapshot_piece::Piece};
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_missed_too_much_gets_a_snapshot() {
    const TIMES: usize = 2;
    let target = Target::from_env().unwrap();
    let mut trial = trial_with(small_log());
    trial.work(Mix::default());
    get_on(&trial).await;
    let follower = (trial.cluster.leader().await.unwrap() + 1) % 3;
    // More than once: what a snapshot leaves behind must not be in the way of the next.
    for time in 1..=TIMES {
        trial.cluster.kill(follower).unwrap();
        // What is acknowledged from now on lies behind everything it has.
        get_on(&trial).await;
        if target == Target::Kvd {
            trial.cluster.wait_purged_without(follower).await.unwrap();
        }
        trial.cluster.start_again(follower).unwrap();
        get_on(&trial).await;
        if target == Target::Kvd {
            let installed =
                async || (trial.cluster.snapshots_installed(follower) >= time).then_some(());
            trial.cluster.wait("it installs a snapshot", installed).await.unwrap();
        }
    }
    check(&mut trial).await;
}

/// A longer form: `kvjepsen lag --minutes 10`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_under_load_end_nobody() {
    // etcd does not say when it installs one.
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let cluster = Cluster::start_with(lag::options()).unwrap_or_else(|error| panic!("{error:#}"));
    let mut lag = Lag::new(cluster);
    for absence in Absence::ALL {
        if let Err(error) = lag.one_snapshot(absence).await {
            let dirs = lag.cluster.keep_dirs();
            panic!("{absence:?}: {error:#}\n{}\n{dirs:?}", lag.cluster.log_tails());
        }
    }
    let (_, report) = lag.finish().await.unwrap_or_else(|error| panic!("{error:#}"));
    eprintln!("{report:?}");
    assert!(report.installed >= Absence::ALL.len(), "{report:?}");
}

const MIB: u64 = 1 << 20;
/// Of the log, which takes and gives back its space in these.
const SEGMENT_BYTES: u64 = 16 * MIB;
/// One is being prepared, and two wait to be used again.
const SPARE_SEGMENTS: u64 = 3;

/// What a member's log takes on its disk.
fn log_bytes(cluster: &Cluster, place: usize) -> u64 {
    let files = fs::read_dir(cluster.node(place).data_dir().join("wal")).unwrap();
    // One that is gone since has no size.
    files.map(|file| file.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
}

/// Overwrites eight keys with 9 MiB at a member, and compacts what that leaves as history.
async fn write_much(cluster: &Cluster, place: usize) {
    let value = "v".repeat(256 << 10);
    let mut revision = 0;
    for count in 0..36 {
        revision = put(cluster, place, &format!("much/{}", count % 8), &value).await;
    }
    let compact = async || {
        let request = CompactionRequest { revision, physical: false };
        let answer = cluster.client(place).await.ok()?.kv.compact(request).await;
        let done = |status: &Status| status.message().contains("has been compacted");
        answer.map_or_else(|status| done(&status), |_| true).then_some(())
    };
    cluster.wait("a compaction", compact).await.unwrap();
}

/// Whoever does not answer must not make the others keep their logs for it: it gets a snapshot.
///
/// A log is kept from the older of two snapshot files on, and what `--log-retention-bytes` asks
/// for before that. A snapshot is due after each `--snapshot-log-bytes`, or twice the data with its
/// history if that is more, which it is not here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_stay_short_while_a_member_is_away() {
    const ROUND_BYTES: u64 = 9 * MIB;
    const ROUNDS: u64 = 16;
    // The older file was begun in the round before the last, the newer one in the last.
    const KEPT_SEGMENTS: u64 = (2 * ROUND_BYTES + MIB).div_ceil(SEGMENT_BYTES) + 1;
    const BOUND: u64 = (KEPT_SEGMENTS + SPARE_SEGMENTS) * SEGMENT_BYTES;
    const { assert!(ROUNDS * ROUND_BYTES > BOUND + 2 * SEGMENT_BYTES) };
    // etcd keeps its log by entries, and files of it by number.
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let options = ClusterOptions::new(Target::Kvd, 3);
    let options = options.arg("--snapshot-log-bytes=8MiB").arg("--log-retention-bytes=1MiB");
    let mut cluster = Cluster::start_with(options).unwrap_or_else(|error| panic!("{error:#}"));
    for is_hung in [false, true] {
        let leader = cluster.leader().await.unwrap();
        let away = (leader + 1) % 3;
        let installed = cluster.snapshots_installed(away);
        match is_hung {
            true => cluster.pause(away).unwrap(),
            false => cluster.kill(away).unwrap(),
        }
        let mut most = 0;
        for _ in 0..ROUNDS {
            let before = cluster.status(leader).await.unwrap().raft_index;
            write_much(&cluster, leader).await;
            for place in [leader, (leader + 2) % 3] {
                let written = async || {
                    let newest = snapshots(&cluster, place).pop()?;
                    (snapshot_index(&newest) > before).then_some(())
                };
                cluster.wait("a snapshot file is written", written).await.unwrap();
                let short = async || {
                    let bytes = log_bytes(&cluster, place);
                    (bytes <= BOUND).then_some(bytes)
                };
                let what = format!("the log takes {BOUND} bytes at most");
                most = most.max(cluster.wait(&what, short).await.unwrap());
            }
        }
        let (most, bound) = (most / MIB, BOUND / MIB);
        let written = ROUNDS * ROUND_BYTES / MIB;
        eprintln!("{written} MiB were written; logs took {most} MiB of the {bound} they may take");
        match is_hung {
            true => cluster.resume(away).unwrap(),
            false => cluster.start_again(away).unwrap(),
        }
        let caught_up = async || (cluster.snapshots_installed(away) > installed).then_some(());
        cluster.wait("it gets a snapshot", caught_up).await.unwrap();
        cluster.wait_in_step().await.unwrap();
    }
}

/// What a member wrote before it was started again counts as well, or one that is started often
/// would keep its log for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_shortened_however_often_a_member_starts() {
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    // More than is written in one run, less than in two.
    let options = ClusterOptions::new(Target::Kvd, 1).arg("--snapshot-log-bytes=13MiB");
    let mut cluster = Cluster::start_with(options).unwrap_or_else(|error| panic!("{error:#}"));
    write_much(&cluster, 0).await;
    cluster.kill(0).unwrap();
    assert_eq!(snapshots(&cluster, 0).len(), 0);
    cluster.start_again(0).unwrap();
    write_much(&cluster, 0).await;
    let written = async || snapshots(&cluster, 0).pop();
    cluster.wait("a snapshot file is written", written).await.unwrap();
}

/// Files of a snapshot on its way to a member. It may be writing one of its own meanwhile.
fn incoming(cluster: &Cluster, place: usize) -> Vec<PathBuf> {
    let dir = cluster.node(place).data_dir().join("snap");
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path());
    let is_incoming = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("from-"))
    };
    files.filter(is_incoming).collect()
}

/// Snapshot files that a member has open, those among them that have no name any more.
fn open_files(cluster: &Cluster, place: usize) -> Vec<PathBuf> {
    let node = cluster.node(place);
    let dir = node.data_dir().join("snap");
    let files = fs::read_dir(format!("/proc/{}/fd", node.pid().unwrap())).unwrap();
    let files = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    files.filter(|path| path.starts_with(&dir)).collect()
}

/// What is cut off half-way goes on once the network is back, or begins anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_cut_off_arrives_all_the_same() {
    const KEYS: usize = 32;
    const VALUE_BYTES: usize = 256 << 10;
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let mut cluster = Cluster::start_with(small_log()).unwrap_or_else(|error| panic!("{error:#}"));
    for is_killed in [false, true] {
        let leader = cluster.leader().await.unwrap();
        let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let installed = cluster.snapshots_installed(away);
        cluster.kill(away).unwrap();
        for key in 0..KEYS {
            let value = "v".repeat(VALUE_BYTES);
            put(&cluster, leader, &format!("large/{key}"), &value).await;
        }
        let last = cluster.status(leader).await.unwrap().raft_index;
        while [leader, other].iter().any(|place| cluster.purged(*place) < last) {
            write_much(&cluster, leader).await;
        }
        cluster.cut_after(leader, away, KEYS * VALUE_BYTES / 2);
        cluster.spawn(away).unwrap();
        let cut = async || cluster.is_cut(leader, away).then_some(());
        cluster.wait("half of the file is sent", cut).await.unwrap();
        assert_eq!(cluster.snapshots_installed(away), installed);
        assert_eq!(incoming(&cluster, away).len(), 1);
        if is_killed {
            cluster.kill(away).unwrap();
            cluster.heal();
            cluster.start_again(away).unwrap();
        } else {
            cluster.heal();
        }
        let arrived = async || (cluster.snapshots_installed(away) > installed).then_some(());
        cluster.wait("the snapshot arrives", arrived).await.unwrap();
        cluster.wait_in_step().await.unwrap();
        assert_eq!(incoming(&cluster, away), Vec::<PathBuf>::new());
        // A file that is open takes its room even when it was removed.
        let closed = async || open_files(&cluster, away).is_empty().then_some(());
        cluster.wait("no snapshot file is open", closed).await.unwrap();
    }
}

/// What somebody whom the member does not know yet begins to send to it.
async fn first_pieces(cluster: &Cluster, place: usize, bytes: u64) -> Vec<SnapshotPiece> {
    let header = cluster.status(place).await.unwrap().header.unwrap();
    let (cluster_id, from, to) = (header.cluster_id, 7, header.member_id);
    let head = SnapshotHead {
        identity: Some(Identity { cluster_id, from, to, from_log: 0, to_log: 0 }),
        vote: Some(Vote { term: header.raft_term, member_id: from, committed: true }),
        applied: None,
        bytes,
    };
    let pieces = [Piece::Head(head), Piece::Data(vec![0; 1 << 10].into())];
    pieces.map(|piece| SnapshotPiece { piece: Some(piece) }).into()
}

/// A member takes what its disk has room for beside its log, and nothing of anything larger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_finds_no_room_is_refused_at_once() {
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let cluster = Cluster::start(Target::Kvd, 3).unwrap_or_else(|error| panic!("{error:#}"));
    let follower = (cluster.leader().await.unwrap() + 1) % 3;
    let pieces = first_pieces(&cluster, follower, 1 << 60).await;
    let mut peer = PeerClient::connect(cluster.node(follower).peer_url()).await.unwrap();
    let refused = peer.install_snapshot(tokio_stream::iter(pieces)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let dir = cluster.node(follower).data_dir();
    assert!(refused.message().contains(&*dir.to_string_lossy()), "{refused:?}");
    let log = cluster.node(follower).log();
    let warned = |line: &str| line.contains("WARN") && line.contains(refused.message());
    assert!(log.lines().any(warned), "{log}");
    assert_eq!(incoming(&cluster, follower), Vec::<PathBuf>::new());
    cluster.wait_in_step().await.unwrap();
}

/// Who loses its power does not end its connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_stops_coming_is_given_up() {
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let cluster = Cluster::start(Target::Kvd, 1).unwrap_or_else(|error| panic!("{error:#}"));
    cluster.leader().await.unwrap();
    let pieces = first_pieces(&cluster, 0, 1 << 20).await;
    let pieces = tokio_stream::iter(pieces).chain(tokio_stream::pending());
    let mut peer = PeerClient::connect(cluster.node(0).peer_url()).await.unwrap();
    let sending = tokio::spawn(async move { peer.install_snapshot(pieces).await });
    let begun = async || (incoming(&cluster, 0).len() == 1).then_some(());
    cluster.wait("a file is begun", begun).await.unwrap();
    let given_up = sending.await.unwrap().unwrap_err();
    assert_eq!(given_up.code(), Code::DeadlineExceeded, "{given_up:?}");
    assert_eq!(incoming(&cluster, 0), Vec::<PathBuf>::new());
}

/// Has a member write a file of its state as it is.
async fn write_file(cluster: &Cluster, place: usize) {
    let mut client = cluster.client(place).await.unwrap();
    let mut stream = client.maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
}

/// Turns a bit of a member's newest file.
fn damage(cluster: &Cluster, place: usize) {
    let newest = snapshots(cluster, place).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
}

/// Nobody looks into a file when a member starts. Whoever finds it damaged is who it is sent to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_replaced_by_whoever_sends_it() {
    const REPLACED: &str = "a snapshot file is damaged: another was written";
    if Target::from_env().unwrap() == Target::Etcd {
        return;
    }
    let mut cluster = Cluster::start_with(small_log()).unwrap_or_else(|error| panic!("{error:#}"));
    let leader = cluster.leader().await.unwrap();
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(away).unwrap();
    write_much(&cluster, leader).await;
    let last = cluster.status(leader).await.unwrap().raft_index;
    while [leader, other].iter().any(|place| cluster.purged(*place) < last) {
        write_much(&cluster, leader).await;
    }
    // With that, and an engine that is as far, nothing makes a new one due when they are started.
    cluster.wait_in_step().await.unwrap();
    for place in [leader, other] {
        write_file(&cluster, place).await;
    }
    let received = cluster.snapshots_received(away);
    let installed = cluster.snapshots_installed(away);
    // Whichever of them leads then.
    for place in [leader, other] {
        cluster.stop(place).unwrap();
        damage(&cluster, place);
    }
    for place in [leader, other, away] {
        cluster.spawn(place).unwrap();
    }
    let arrived = async || (cluster.snapshots_installed(away) > installed).then_some(());
    cluster.wait("it gets a snapshot all the same", arrived).await.unwrap();
    cluster.wait_in_step().await.unwrap();

    // The damaged one, and the one that replaced it; twice, should the leader have changed.
    let received = cluster.snapshots_received(away) - received;
    assert!((2..=4).contains(&received), "{received} files were sent: {}", cluster.log_tails());
    let mut replaced = 0;
    for place in [leader, other] {
        let warned = cluster.node(place).log().matches(REPLACED).count();
        assert!(warned <= 1, "{}", cluster.node(place).log_tail());
        let files = fs::read_dir(cluster.node(place).data_dir().join("snap")).unwrap();
        let is_damaged = |path: &PathBuf| path.extension().is_some_and(|end| end == "damaged");
        assert_eq!(files.map(|file| file.unwrap().path()).filter(is_damaged).count(), warned);
        replaced += warned;
    }
    assert!(replaced > 0, "{}", cluster.log_tails());
}
