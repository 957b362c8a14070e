//! Several members: what happens to them, and what clients must not notice. With `TARGET=etcd` the
//! same against the original.

mod faults;
mod network;

use std::time::{Duration, Instant};

use harness::{Client, Cluster, ClusterOptions, PATIENCE, Target};
use proto::etcdserverpb::{PutRequest, RangeRequest};
use tonic::{Request, Status};

/// Of `--election-timeout`, which nobody changes here.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

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
