//! One request of a differential run.

use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest,
};

/// What is asked of both servers at once. Streams are numbers; one is opened by its first use.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Put(PutRequest),
    Range(RangeRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    HashKv(HashKvRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    LeaseKeepAlive {
        ids: Vec<i64>,
    },
    LeaseLeases,
    /// A command of the golden scripts.
    Line(String),
    /// The same through the JSON gateway.
    Json(Box<Step>),
    WatchCreate {
        stream: usize,
        request: WatchCreateRequest,
    },
    WatchCancel {
        stream: usize,
        id: i64,
    },
    WatchProgress {
        stream: usize,
    },
    /// The client goes away, and its stream with it.
    WatchClose {
        stream: usize,
    },
}
