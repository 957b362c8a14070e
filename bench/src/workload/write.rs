//! Puts, and Kubernetes' way to write: a transaction that compares the key's modification revision.

use prost::Message;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request as Operation;
use proto::etcdserverpb::response_op::Response as Outcome;
use proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};

use super::{KeySpace, Request, Values, Workload};
use crate::h2::Method;
use crate::load::Tally;

pub(crate) struct Put {
    keys: KeySpace,
    values: Values,
    request: PutRequest,
    /// The value starts with the time it was sent, for watchers to read.
    stamped: bool,
}

impl Put {
    pub(crate) fn new(keys: KeySpace, values: Values) -> Self {
        Self { keys, values, request: PutRequest::default(), stamped: false }
    }

    pub(crate) fn stamped(self) -> Self {
        assert!(self.values.bytes() >= super::watch::STAMP_BYTES, "a stamp needs room");
        Self { stamped: true, ..self }
    }
}

impl Workload for Put {
    fn request(&mut self, _client: u32, message: &mut Vec<u8>) -> Request {
        let number = self.keys.draw();
        self.keys.write(number, &mut self.request.key);
        self.values.write(&mut self.request.value);
        if self.stamped {
            super::watch::stamp(&mut self.request.value);
        }
        self.request.encode_raw(message);
        Request::counted(Method::Put)
    }

    fn reply(&mut self, _client: u32, _message: &[u8], _tally: &mut Tally) {}
}

/// Updates of keys that no other client touches, so that every compare can hold.
pub(crate) struct Txn {
    keys: KeySpace,
    values: Values,
    clients: u32,
    keys_per_client: u32,
    /// What each key's last write returned; 0 before the first.
    revisions: Vec<i64>,
    /// The key each client is writing.
    writing: Vec<u32>,
}

impl Txn {
    /// `size` keys are dealt to `clients`; each has one at least.
    pub(crate) fn new(keys: KeySpace, size: u32, values: Values, clients: u32) -> Self {
        let keys_per_client = (size / clients).max(1);
        Self {
            keys,
            values,
            clients,
            keys_per_client,
            revisions: vec![0; (keys_per_client * clients) as usize],
            writing: vec![0; clients as usize],
        }
    }
}

impl Workload for Txn {
    fn request(&mut self, client: u32, message: &mut Vec<u8>) -> Request {
        // Key numbers of one client are `clients` apart.
        let turn = self.keys.draw() % self.keys_per_client;
        let number = turn * self.clients + client;
        self.writing[client as usize] = number;
        let mut key = Vec::new();
        self.keys.write(number, &mut key);
        let mut value = Vec::new();
        self.values.write(&mut value);
        update(key, value, self.revisions[number as usize]).encode_raw(message);
        Request { method: Method::Txn, collects: true, reply_bytes_min: 1 }
    }

    fn reply(&mut self, client: u32, message: &[u8], tally: &mut Tally) {
        match modified(message) {
            Some(revision) => {
                self.revisions[self.writing[client as usize] as usize] = revision;
            }
            None => tally.failed += 1,
        }
    }
}

/// Puts if the key is as it was at `revision`, else reads what it is now.
pub(super) fn update(key: Vec<u8>, value: Vec<u8>, revision: i64) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    };
    let read = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let put = PutRequest { key, value, ..PutRequest::default() };
    let operation = |request| vec![RequestOp { request: Some(request) }];
    TxnRequest {
        compare: vec![compare],
        success: operation(Operation::RequestPut(put)),
        failure: operation(Operation::RequestRange(read)),
    }
}

/// The key's modification revision, from the answer to an `update`.
pub(super) fn modified(message: &[u8]) -> Option<i64> {
    let response = TxnResponse::decode(message).ok()?;
    if response.succeeded {
        return Some(response.header?.revision);
    }
    match response.responses.into_iter().next()?.response? {
        Outcome::ResponseRange(range) => {
            Some(range.kvs.first().map_or(Some(0), |kv| Some(kv.parse().ok()?.mod_revision))?)
        }
        _ => None,
    }
}
