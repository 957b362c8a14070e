//! Clients that write as fast as they can, and know for each key what may be its last value.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Client;

const WRITERS: usize = 64;
/// Of each writer. Few, so that snapshots stay small and are soon sent again.
const KEYS: u64 = 4;
const VALUE_BYTES: usize = 1 << 10;
/// Before a writer goes on elsewhere.
const PATIENCE: Duration = Duration::from_secs(3);
/// Before it does so.
const PAUSE: Duration = Duration::from_millis(20);
const COMPACT_EVERY: Duration = Duration::from_millis(100);

/// Writers at work.
pub(super) struct Load {
    stop: watch::Sender<bool>,
    workers: JoinSet<Diary>,
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Vec<String>,
    stop: watch::Receiver<bool>,
    acknowledged: AtomicU64,
    revision: AtomicI64,
}

/// What a writer was told of each of its keys.
struct Diary {
    writer: usize,
    pages: Vec<Page>,
}

#[derive(Clone, Debug, Default)]
struct Page {
    /// The last write that was acknowledged.
    last: u64,
    /// Writes without an answer, which may still have been the last to happen.
    open: BTreeSet<u64>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    pub acknowledged: u64,
    pub unanswered: u64,
}

impl Load {
    /// Starts the writers, inside of a runtime.
    pub(super) fn start(endpoints: Vec<String>) -> Self {
        let (stop, receiver) = watch::channel(false);
        let (acknowledged, revision) = Default::default();
        let shared = Arc::new(Shared { endpoints, stop: receiver, acknowledged, revision });
        let mut workers = JoinSet::new();
        for writer in 0..WRITERS {
            workers.spawn(write(shared.clone(), writer));
        }
        tokio::spawn(compact(shared.clone()));
        Self { stop, workers, shared }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Ends it, and compares what a member has with what the writers were told.
    pub(super) async fn finish(mut self, client: &mut Client) -> Result<Written> {
        self.stop.send_replace(true);
        let mut written = Written { acknowledged: self.acknowledged(), unanswered: 0 };
        while let Some(diary) = self.workers.join_next().await {
            let Diary { writer, pages } = diary.context("a writer does not panic")?;
            for (number, page) in (0..).zip(pages) {
                written.unanswered += page.open.len() as u64;
                let found = value(client, writer, number).await?;
                ensure!(
                    found == page.last || page.open.contains(&found),
                    "{} holds write {found}, but {page:?}",
                    key(writer, number)
                );
            }
        }
        Ok(written)
    }
}

fn key(writer: usize, number: u64) -> String {
    format!("lag/{writer:03}/{number}")
}

/// The number of the write that a key's value comes from; 0 for none.
async fn value(client: &mut Client, writer: usize, number: u64) -> Result<u64> {
    let request = RangeRequest { key: key(writer, number).into(), ..RangeRequest::default() };
    let answer = client.kv.range(request).await?.into_inner();
    let Some(kv) = answer.kvs.first() else { return Ok(0) };
    let value = kv.parse()?.value;
    let digits = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    Ok(std::str::from_utf8(digits)?.parse()?)
}

async fn write(shared: Arc<Shared>, writer: usize) -> Diary {
    let mut diary = Diary { writer, pages: vec![Page::default(); KEYS as usize] };
    let (mut place, mut client) = (writer, None);
    for count in 1.. {
        if *shared.stop.borrow() {
            break;
        }
        let number = count % KEYS;
        let page = &mut diary.pages[number as usize];
        let put = put(&shared, place, &mut client, key(writer, number), count);
        match timeout(PATIENCE, put).await {
            Ok(Some(revision)) => {
                page.last = count;
                shared.revision.fetch_max(revision, Ordering::SeqCst);
                shared.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            _ => {
                page.open.insert(count);
                (place, client) = (place + 1, None);
                sleep(PAUSE).await;
            }
        }
    }
    diary
}

async fn put(
    shared: &Shared,
    place: usize,
    client: &mut Option<Client>,
    key: String,
    count: u64,
) -> Option<i64> {
    if client.is_none() {
        let endpoint = &shared.endpoints[place % shared.endpoints.len()];
        *client = Some(Client::connect(endpoint).await.ok()?);
    }
    let mut value = format!("{count} ").into_bytes();
    value.resize(VALUE_BYTES, b'.');
    let request = PutRequest { key: key.into(), value, ..PutRequest::default() };
    let answer = client.as_mut()?.kv.put(request).await.ok()?.into_inner();
    Some(answer.header?.revision)
}

/// Compacts all history, again and again: what is left of it would put off the next snapshot.
async fn compact(shared: Arc<Shared>) {
    let mut stop = shared.stop.clone();
    let mut place = 0;
    while timeout(COMPACT_EVERY, stop.wait_for(|stop| *stop)).await.is_err() {
        let revision = shared.revision.load(Ordering::SeqCst);
        let endpoint = &shared.endpoints[place % shared.endpoints.len()];
        let compacted = timeout(PATIENCE, async {
            let mut client = Client::connect(endpoint).await.ok()?;
            let request = CompactionRequest { revision, physical: false };
            client.kv.compact(request).await.ok()
        });
        if !matches!(compacted.await, Ok(Some(_))) {
            place += 1;
        }
    }
}
