//! The queue of keys under a prefix: joining it, waiting for one's turn, leaving it.

use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::response_op::Response as Answer;
use proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};
use proto::mvccpb::event::EventType;
use proto::{EncodedKeyValue, KeyValue};
use tonic::Status;

use super::caller::Caller;

/// What a name's keys begin with.
pub(super) fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// Where the keys of a prefix end, which ends in a slash.
pub(super) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let (_, name) = prefix.split_last().expect("a prefix ends in a slash");
    [name, b"0"].concat()
}

/// A client's key: its lease in hex, with the sign that Go gives a negative one.
pub(super) fn key_of(prefix: &[u8], lease: i64) -> Vec<u8> {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat()
}

/// The key of a prefix that was created first.
pub(super) fn oldest(prefix: &[u8]) -> RangeRequest {
    RangeRequest {
        key: prefix.to_vec(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

/// That the key was created at this revision; 0: that there is none.
pub(super) fn created_at(key: &[u8], revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.to_vec(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

pub(super) fn get(key: &[u8]) -> RangeRequest {
    RangeRequest { key: key.to_vec(), ..RangeRequest::default() }
}

pub(super) fn put(key: &[u8], value: &[u8], lease: i64) -> Op {
    let (key, value) = (key.to_vec(), value.to_vec());
    Op::RequestPut(PutRequest { key, value, lease, ..PutRequest::default() })
}

/// A transaction of one comparison.
pub(super) fn txn(
    compare: Compare,
    success: impl IntoIterator<Item = Op>,
    failure: impl IntoIterator<Item = Op>,
) -> TxnRequest {
    let ops = |op| RequestOp { request: Some(op) };
    TxnRequest {
        compare: vec![compare],
        success: success.into_iter().map(ops).collect(),
        failure: failure.into_iter().map(ops).collect(),
    }
}

/// The first pair that the operation at this place of a transaction has read.
pub(super) fn read_at(response: &TxnResponse, place: usize) -> Option<KeyValue> {
    match &response.responses.get(place)?.response {
        Some(Answer::ResponseRange(range)) => first(range),
        _ => None,
    }
}

pub(super) fn first(range: &RangeResponse) -> Option<KeyValue> {
    // Pairs of this store were encoded by it.
    range.kvs.first().and_then(|kv: &EncodedKeyValue| kv.parse().ok())
}

pub(super) fn revision(response: &TxnResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// Waits until no key of the prefix is left that was created before `revision`. The newest of them is
/// waited for, so that those who wait are woken one by one.
pub(super) async fn wait_turn(caller: &Caller, prefix: &[u8], revision: i64) -> Result<(), Status> {
    loop {
        let before = RangeRequest {
            sort_order: SortOrder::Descend.into(),
            max_create_revision: revision - 1,
            ..oldest(prefix)
        };
        let range = caller.range(before).await?;
        let Some(newest) = first(&range) else { return Ok(()) };
        let read_at = range.header.map_or(0, |header| header.revision);
        let mut changes = caller.changes(newest.key.to_vec(), Vec::new(), read_at);
        loop {
            let (_, response) = changes.next().await?;
            if response.events.iter().any(|event| event.r#type() == EventType::Delete) {
                break;
            }
        }
    }
}

/// A key that waits in the queue; a client that gives up leaves it.
pub(super) struct Place {
    caller: Caller,
    key: Vec<u8>,
    /// The key leaves only if it was created there; `None`: in any case.
    created: Option<i64>,
    waits: bool,
}

impl Place {
    pub(super) fn new(caller: &Caller, key: &[u8], created: Option<i64>) -> Self {
        Self { caller: caller.clone(), key: key.to_vec(), created, waits: true }
    }

    /// The wait is over, and the key stays.
    pub(super) fn keep(mut self) {
        self.waits = false;
    }

    /// The wait is over without success.
    pub(super) async fn leave(mut self) {
        self.waits = false;
        leave(&self.caller, &self.key, self.created).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.waits {
            let (caller, key, created) =
                (self.caller.clone(), std::mem::take(&mut self.key), self.created);
            tokio::spawn(async move { leave(&caller, &key, created).await });
        }
    }
}

async fn leave(caller: &Caller, key: &[u8], created: Option<i64>) {
    let left = match created {
        None => caller.delete(key.to_vec()).await.map(drop),
        Some(revision) => caller.txn(resignation(key, revision)).await.map(drop),
    };
    if let Err(status) = left {
        // The key goes with its lease then.
        tracing::debug!(error = status.message(), "a client that gave up stays in the queue");
    }
}

/// Deletes the key that was created there.
pub(super) fn resignation(key: &[u8], created: i64) -> TxnRequest {
    let delete =
        proto::etcdserverpb::DeleteRangeRequest { key: key.to_vec(), ..Default::default() };
    txn(created_at(key, created), [Op::RequestDeleteRange(delete)], [])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_etcds() {
        for (lease, expected) in [
            (0x7b, "a/7b"),
            (-7, "a/-7"),
            (i64::MAX, "a/7fffffffffffffff"),
            (i64::MIN, "a/-8000000000000000"),
        ] {
            assert_eq!(key_of(&prefix(b"a"), lease), expected.as_bytes());
        }
        assert_eq!(prefix_end(&prefix(b"")), b"0");
        assert_eq!(prefix_end(&prefix(b"a\xff")), b"a\xff0");
    }
}
