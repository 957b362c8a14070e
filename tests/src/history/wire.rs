//! Between the wire and the checker's types: one call each, nothing retried, every byte looked at.

use std::fmt;
use std::time::Duration;

use crate::Client;
use anyhow::{Context, Result, anyhow, bail, ensure};
use proto::EncodedKeyValue;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, ResponseOp, SnapshotRequest, TxnRequest, WatchCreateRequest, WatchRequest,
    WatchResponse, request_op, response_op,
};
use proto::mvccpb::event::EventType;
use tokio_stream::StreamExt as _;
use tonic::{Code, Response, Status, Streaming};

use crate::history::facts::{
    ALL, Entry, Event, Guard, Key, Operation, Outcome, Read, Revision, Value, Write, key_text,
    parse_key, range_end,
};

/// Longer than a server may take for anything but being stopped.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Status codes that leave no doubt: the server looked at the call and did not do it.
const REFUSALS: [Code; 4] =
    [Code::InvalidArgument, Code::ResourceExhausted, Code::FailedPrecondition, Code::OutOfRange];
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// etcd gives this one no code of its own.
const BUSY: &str = "etcdserver: too many requests";

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// `None`: nobody answered.
    pub code: Option<Code>,
    pub message: String,
}

impl Failure {
    fn ended(why: &str) -> Self {
        Self { code: None, message: why.to_owned() }
    }

    pub fn is_refusal(&self) -> bool {
        self.code.is_some_and(|code| REFUSALS.contains(&code)) || self.is_busy()
    }

    /// The server has too much to do; whoever asks later may be lucky.
    pub fn is_busy(&self) -> bool {
        self.code.is_some() && self.message == BUSY
    }

    /// etcd's answer to a write when there is no space.
    pub fn is_no_space(&self) -> bool {
        self.code == Some(Code::ResourceExhausted) && self.message == NO_SPACE
    }

    pub fn is_compacted(&self) -> bool {
        self.code == Some(Code::OutOfRange) && self.message.contains("has been compacted")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code:?}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { code: Some(status.code()), message: status.message().to_owned() }
    }
}

/// The answer to a call, or why there is none.
async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(result) => Ok(result?.into_inner()),
        Err(_) => Err(Failure::ended(&format!("no answer in {CALL_TIMEOUT:?}"))),
    }
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// Sends a write and says what became of it.
pub async fn send(client: &mut Client, write: &Write) -> Result<Outcome, Failure> {
    let (changed, header) = match (write.guard, write.operations.as_slice()) {
        (None, [Operation::Put { key, value }]) => {
            let answer = within(client.kv.put(put(*key, *value))).await?;
            (true, answer.header)
        }
        (None, [Operation::Delete { first, last }]) => {
            let answer = within(client.kv.delete_range(delete(*first, *last))).await?;
            (answer.deleted > 0, answer.header)
        }
        (guard, operations) => {
            let answer = within(client.kv.txn(transaction(guard, operations))).await?;
            let deleted = |op: &ResponseOp| match &op.response {
                Some(response_op::Response::ResponseDeleteRange(answer)) => answer.deleted > 0,
                _ => true,
            };
            (answer.succeeded && answer.responses.iter().any(deleted), answer.header)
        }
    };
    let at = revision(header);
    Ok(if changed { Outcome::Applied(at) } else { Outcome::Nothing(at) })
}

pub async fn compact(client: &mut Client, revision: i64, physical: bool) -> Result<(), Failure> {
    within(client.kv.compact(CompactionRequest { revision, physical })).await.map(drop)
}

/// Takes a snapshot and throws it away; says how long it was.
pub async fn snapshot(client: &mut Client) -> Result<usize, Failure> {
    let mut stream = within(client.maintenance.snapshot(SnapshotRequest {})).await?;
    let mut bytes = 0;
    while let Some(message) = stream.message().await? {
        bytes += message.blob.len();
    }
    Ok(bytes)
}

fn put(key: Key, value: Value) -> PutRequest {
    PutRequest { key: key_text(key).into(), value: value.render(), ..PutRequest::default() }
}

fn delete(first: Key, last: Key) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key_text(first).into(),
        range_end: range_end(last).into(),
        ..DeleteRangeRequest::default()
    }
}

fn transaction(guard: Option<Guard>, operations: &[Operation]) -> TxnRequest {
    let compare = |guard: Guard| Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key_text(guard.key).into(),
        target_union: Some(TargetUnion::ModRevision(guard.modified)),
        ..Compare::default()
    };
    let request = |operation: &Operation| RequestOp {
        request: Some(match *operation {
            Operation::Put { key, value } => request_op::Request::RequestPut(put(key, value)),
            Operation::Delete { first, last } => {
                request_op::Request::RequestDeleteRange(delete(first, last))
            }
        }),
    };
    TxnRequest {
        compare: guard.map(compare).into_iter().collect(),
        success: operations.iter().map(request).collect(),
        ..TxnRequest::default()
    }
}

/// What to read: both ends included, at most `limit` keys, 0 for all.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    pub range: (Key, Key),
    pub at: Option<i64>,
    pub serializable: bool,
    pub limit: i64,
    pub floor: i64,
}

/// A read and whether it stopped at the limit; then its range ends with its last key.
pub async fn read(client: &mut Client, query: Query) -> Result<(Read, bool), Failure> {
    let Query { range: (first, last), at, serializable, limit, floor } = query;
    let request = RangeRequest {
        key: key_text(first).into(),
        range_end: range_end(last).into(),
        revision: at.unwrap_or(0),
        serializable,
        limit,
        ..RangeRequest::default()
    };
    let answer = within(client.kv.range(request)).await?;
    let mut found = Vec::with_capacity(answer.kvs.len());
    for kv in &answer.kvs {
        let entry = entry(kv, true).map_err(|error| Failure::ended(&error.to_string()))?;
        found.push(entry);
    }
    let last = match (answer.more, found.last()) {
        (true, Some((key, _))) => *key,
        _ => last,
    };
    let revision = revision(answer.header);
    Ok((Read { range: (first, last), at, floor, revision, found }, answer.more))
}

/// Deletions have a key and a revision, and no value.
fn entry(encoded: &EncodedKeyValue, has_value: bool) -> Result<(Key, Entry)> {
    let kv = encoded.parse().context("a key-value pair that is none")?;
    let Some(key) = parse_key(&kv.key) else {
        bail!("a key nobody wrote: {}", kv.key.escape_ascii());
    };
    let value = match has_value {
        true => Value::parse(&kv.value).ok_or_else(|| {
            let start = &kv.value[..kv.value.len().min(40)];
            let (key, start) = (key_text(key), start.escape_ascii());
            anyhow!("{key} holds {} bytes that nobody wrote: {start}", kv.value.len())
        })?,
        false => Value { write: 0, operation: 0, bytes: 0 },
    };
    let (create, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
    Ok((key, Entry { value, create, modified, version }))
}

/// A watch of all keys that checks what every watch promises: revisions ascend and arrive whole.
pub struct Watcher {
    stream: Streaming<WatchResponse>,
    last: i64,
}

pub enum Seen {
    Revisions(Vec<Revision>),
    /// The start was compacted; the oldest revision that is left.
    Compacted(i64),
}

impl Watcher {
    pub async fn start(client: &mut Client, revision: i64) -> Result<Self> {
        let create = WatchCreateRequest {
            key: key_text(ALL.0).into(),
            range_end: range_end(ALL.1).into(),
            start_revision: revision,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The stream of requests stays open, or the server would end the watch.
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let stream = within(client.watch.watch(requests)).await?;
        Ok(Self { stream, last: revision - 1 })
    }

    pub async fn next(&mut self) -> Result<Seen> {
        loop {
            let Some(answer) = self.stream.message().await.map_err(Failure::from)? else {
                return Err(Failure::ended("the watch stream ended").into());
            };
            if answer.compact_revision > 0 {
                return Ok(Seen::Compacted(answer.compact_revision));
            }
            if answer.canceled {
                return Err(Failure::ended(&answer.cancel_reason).into());
            }
            if !answer.events.is_empty() {
                return Ok(Seen::Revisions(self.revisions(&answer)?));
            }
        }
    }

    fn revisions(&mut self, answer: &WatchResponse) -> Result<Vec<Revision>> {
        let mut revisions: Vec<Revision> = Vec::new();
        for event in &answer.events {
            let is_put = event.r#type() == EventType::Put;
            let (key, entry) = entry(event.kv.as_ref().context("an event without a key")?, is_put)?;
            let number = entry.modified;
            let event = Event { key, put: is_put.then_some(entry) };
            match revisions.last_mut() {
                Some(last) if last.number == number => last.events.push(event),
                _ => {
                    let last = self.last;
                    ensure!(number > last, "the watch shows {number} after {last}");
                    self.last = number;
                    revisions.push(Revision { number, events: vec![event] });
                }
            }
        }
        Ok(revisions)
    }
}
