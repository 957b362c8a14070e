//! Several members: what happens to them, and what clients must not notice. With `TARGET=etcd` the
//! same against the original.

mod admission;
mod corruption;
mod disks;
mod faults;
mod leases;
mod maintenance;
mod network;
mod peers;
mod snapshots;
mod turns;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::history::author::Mix;
use harness::history::check::Summary;
use harness::history::trial::Trial;
use harness::{Client, Cluster, ClusterOptions, PATIENCE, Target};
use proto::etcdserverpb::{PutRequest, RangeRequest};
use tonic::{Request, Status};

/// Of `--election-timeout`, which nobody changes here.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

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

/// A member's snapshot files, oldest first.
fn snapshots(cluster: &Cluster, place: usize) -> Vec<PathBuf> {
    let dir = cluster.node(place).data_dir().join("snap");
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
    files.sort();
    files
}

/// The log's position that a snapshot file stands for, by its name.
fn snapshot_index(path: &Path) -> u64 {
    let name = path.file_name().unwrap().to_str().unwrap();
    u64::from_str_radix(name.split('-').next().unwrap(), 16).unwrap()
}

fn start() -> Cluster {
    let target = Target::from_env().unwrap();
    Cluster::start(target, 3).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Puts, and gives up after a while.
async fn try_put(client: &mut Client, key: &str, value: &str) -> Result<i64, Status> {
    let put = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
    let mut request = Request::new(put);
    request.set_timeout(3 * ELECTION_TIMEOUT);
    Ok(client.kv.put(request).await?.into_inner().header.unwrap().revision)
}

/// Puts at one member, as often as it takes; returns the revision.
async fn put(cluster: &Cluster, place: usize, key: &str, value: &str) -> i64 {
    let put = async || {
        let mut client = cluster.client(place).await.ok()?;
        try_put(&mut client, key, value).await.ok()
    };
    cluster.wait("a put succeeds", put).await.unwrap()
}

/// A linearizable read that gives up after a while.
async fn try_get(client: &mut Client, key: &str) -> Result<Option<String>, Status> {
    let mut request = Request::new(RangeRequest { key: key.into(), ..RangeRequest::default() });
    request.set_timeout(3 * ELECTION_TIMEOUT);
    let answer = client.kv.range(request).await?.into_inner();
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    Ok(answer.kvs.first().map(|kv| text(&kv.parse().unwrap().value)))
}

async fn get(cluster: &Cluster, place: usize, key: &str) -> Option<String> {
    let get = async || {
        let mut client = cluster.client(place).await.ok()?;
        try_get(&mut client, key).await.ok()
    };
    cluster.wait("a read succeeds", get).await.unwrap()
}
