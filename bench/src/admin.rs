//! Single calls through the general client: what a server is, its snapshot, why calls fail.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::Client;
use proto::etcdserverpb::{PutRequest, RangeRequest, SnapshotRequest, StatusRequest};

const RETRY_EVERY: Duration = Duration::from_millis(2);

/// The version a server says it has.
pub(crate) fn version(endpoint: &str) -> Result<String> {
    wait(async {
        let mut client = Client::connect(endpoint).await?;
        Ok(client.maintenance.status(StatusRequest {}).await?.into_inner().version)
    })
}

/// Waits for the first linearizable read.
pub(crate) fn first_read(endpoint: &str, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    wait(async {
        loop {
            let request = RangeRequest { key: b"kvbench".to_vec(), ..RangeRequest::default() };
            let error = match Client::connect(endpoint).await {
                Err(error) => error,
                Ok(mut client) => match client.kv.range(request).await {
                    Ok(_) => return Ok(()),
                    Err(status) => status.into(),
                },
            };
            if Instant::now() > deadline {
                return Err(error).context("the server does not answer reads");
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    })
}

/// Streams a snapshot into `path` and syncs it.
pub(crate) fn snapshot(endpoint: &str, path: &Path) -> Result<Duration> {
    let start = Instant::now();
    wait(async {
        let mut client = Client::connect(endpoint).await?;
        let mut stream = client.maintenance.snapshot(SnapshotRequest {}).await?.into_inner();
        let mut file = File::create(path)?;
        while let Some(part) = stream.message().await? {
            file.write_all(&part.blob)?;
        }
        file.sync_all()?;
        Ok(start.elapsed())
    })
}

/// What a server answers to a read and a write, for a run in which calls failed.
pub(crate) fn complaint(endpoint: &str) -> String {
    let tried = wait(async {
        let mut client = Client::connect(endpoint).await?;
        let key = b"kvbench".to_vec();
        client.kv.range(RangeRequest { key: key.clone(), ..RangeRequest::default() }).await?;
        client.kv.put(PutRequest { key, ..PutRequest::default() }).await?;
        bail!("a read and a write by themselves succeed")
    });
    match tried {
        Ok(()) => String::new(),
        Err(error) => format!("{error:#}"),
    }
}

pub(crate) fn wait<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(call)
}
