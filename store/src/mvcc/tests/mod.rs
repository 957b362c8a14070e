//! Tests of the store as a whole, against a model of etcd's rules written for plainness.

mod alarms;
mod basics;
mod crash;
mod growth;
mod leases;
mod members;
mod model;
mod random;

use std::sync::Arc;

use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseCheckpoint, LeaseCheckpointRequest,
    LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse,
};
use proto::internal::{Command, command::Op};

use self::model::{Answer, Model};
use super::{
    Applied, ChangeEvent, HistoryLimits, Input, Lease, Response, RevisionEvents, Step, Store,
    StoreOptions, StoredRow,
};
use crate::engine::{Engine, MemoryEngine};
use crate::{LogId, ReadError, Refusal};

/// A store, the commands it was given, and the model that was told the same.
pub(super) struct Harness {
    pub(super) engine: MemoryEngine,
    pub(super) store: Arc<Store>,
    model: Model,
    pub(super) log: Vec<Command>,
    /// Events by main revision, as they were published.
    pub(super) published: Vec<Arc<RevisionEvents>>,
}

impl Harness {
    pub(super) fn new() -> Self {
        let engine = MemoryEngine::new();
        let store = open(&engine);
        Self { engine, store, model: Model::new(), log: Vec::new(), published: Vec::new() }
    }

    pub(super) fn apply(&mut self, op: Op) -> Result<Response, Refusal> {
        let command = Command::from(op);
        let applied = apply_next(&self.store, &command);
        self.log.push(command);
        self.published.extend(applied.events);
        applied.outcome
    }

    /// Applies to store and model and compares the answers.
    pub(super) fn check(&mut self, op: Op) {
        let expected = match &op {
            Op::Put(put) => self.model.put(put),
            Op::DeleteRange(delete) => Ok(self.model.delete(delete)),
            Op::Txn(txn) => self.model.txn(txn),
            Op::LeaseGrant(grant) => self.model.grant(grant.id, grant.ttl),
            Op::LeaseRevoke(revoke) => self.model.revoke(revoke.id),
            other => panic!("no model of {other:?}"),
        };
        let answer = self.apply(op).map(|response| match response {
            Response::Put(put) => Answer::from(put),
            Response::DeleteRange(delete) => Answer::from(delete),
            Response::Txn(txn) => Answer::from(txn),
            Response::LeaseGrant(grant) => Answer::from(grant),
            Response::LeaseRevoke(revoke) => {
                Answer::Revoke { revision: revoke.header.unwrap().revision }
            }
            other => panic!("no model of {other:?}"),
        });
        assert_eq!(answer, expected);
        assert_eq!(self.store.revision(), self.model.revision);
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> i64 {
        let put = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        self.check(Op::Put(put));
        self.model.revision
    }

    pub(super) fn delete(&mut self, key: &[u8], range_end: &[u8]) {
        let (key, range_end) = (key.into(), range_end.into());
        self.check(Op::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: true }));
    }

    pub(super) fn put_leased(&mut self, key: &[u8], lease: i64) {
        let (key, value) = (key.into(), b"leased".into());
        self.check(Op::Put(PutRequest { key, value, lease, ..Default::default() }));
    }

    pub(super) fn grant(&mut self, id: i64, ttl: i64) {
        self.check(Op::LeaseGrant(LeaseGrantRequest { id, ttl }));
    }

    pub(super) fn revoke(&mut self, id: i64) {
        self.check(Op::LeaseRevoke(LeaseRevokeRequest { id }));
    }

    /// Notes what is left of a lease.
    pub(super) fn note_remaining(&mut self, id: i64, remaining_ttl: i64) {
        self.model.note_remaining(id, remaining_ttl);
        let checkpoints = vec![LeaseCheckpoint { id, remaining_ttl }];
        let request = LeaseCheckpointRequest { checkpoints };
        assert_eq!(self.apply(Op::LeaseCheckpoint(request)), Ok(Response::None));
    }

    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        let request = CompactionRequest { revision, physical: false };
        let result = self.apply(Op::Compaction(request)).map(|_| ());
        assert_eq!(result, self.model.compact(revision));
        result
    }

    pub(super) fn settle(&self) {
        while self.store.compact_step().unwrap() {}
    }

    pub(super) fn check_range(&self, request: &RangeRequest) {
        let answer = range(&self.store, request).map(Answer::from);
        assert_eq!(answer, self.model.range(request), "{request:?}");
    }

    /// Goes on with the engine a crash left, replaying the log from where that stands.
    pub(super) fn reopen(&mut self, engine: MemoryEngine) {
        self.engine = engine;
        self.store = open(&self.engine);
        let applied = self.store.applied().index as usize;
        for command in &self.log[applied..] {
            apply_next(&self.store, command);
        }
    }

    /// Compares everything there is with the model.
    pub(super) fn check_all(&self) {
        let (store, model) = (&self.store, &self.model);
        assert_eq!((store.revision(), store.compacted()), (model.revision, model.compacted));
        let source = store.snapshot_source();
        let rows: Vec<StoredRow> = source.rows().collect::<Result<_, _>>().unwrap();
        let expected: Vec<StoredRow> =
            model.left().into_iter().map(|at| model.stored(at)).collect();
        assert_eq!(rows, expected);
        for revision in model.compacted.max(1)..=model.revision {
            let all =
                RangeRequest { key: vec![0], range_end: vec![0], revision, ..Default::default() };
            self.check_range(&all);
        }
        let leases: Vec<Lease> = model.leases.values().copied().collect();
        assert_eq!((store.leases(), source.leases), (leases.clone(), leases));
        for id in model.leases.keys() {
            assert_eq!(store.lease_keys(*id), Some(model.attached(*id)));
        }
        let (live, rest) = model.bytes();
        let sizes = store.sizes();
        assert_eq!((sizes.live_bytes, sizes.keys), (live, model.live(model.revision).len() as u64));
        if store.compaction_finished() == model.compacted {
            assert_eq!(sizes.history_bytes, rest);
        }
        // Of the compacted revision itself only a key's last change is left.
        self.check_history(model.compacted.max(0) + 1);
    }

    /// Reads the events from a revision on, a few at a time, and compares with what was published.
    pub(super) fn check_history(&self, from: i64) {
        let limits = HistoryLimits { revisions: 3, bytes: 1 << 20 };
        let mut next = from;
        let mut seen = Vec::new();
        while next <= self.model.revision {
            let history = self.store.history(next, limits, &|key| key != b"b").unwrap();
            assert!(history.next > next && history.events.len() <= 3);
            seen.extend(history.events.iter().flat_map(|events| describe(events)));
            next = history.next;
        }
        let published = self.published.iter().filter(|events| events.main >= from);
        let expected: Vec<String> = published.flat_map(|events| describe(events)).collect();
        assert_eq!(seen, expected);
    }
}

/// Wanted events in words, without the previous version: a compaction may have taken that.
fn describe(events: &RevisionEvents) -> Vec<String> {
    let wanted = events.events.iter().filter(|event| event.key != b"b"[..]);
    let word = |event: &ChangeEvent| {
        format!("{} {:?} {:?} {:?} {}", events.main, event.kind, event.key, event.kv, event.create)
    };
    wanted.map(word).collect()
}

pub(super) fn open(engine: &MemoryEngine) -> Arc<Store> {
    let shared: Arc<dyn Engine> = Arc::new(engine.clone());
    Store::open(shared, StoreOptions::default()).unwrap()
}

pub(in crate::mvcc) fn apply_next(store: &Store, command: &Command) -> Applied {
    let index = store.applied().index + 1;
    store.apply(LogId { term: 1, index }, Input::Command(command)).unwrap()
}

pub(super) fn run<T>(mut step: impl FnMut() -> Result<Step<T>, ReadError>) -> Result<T, ReadError> {
    loop {
        if let Step::Done(done) = step()? {
            return Ok(done);
        }
    }
}

pub(super) fn refused<T>(result: Result<T, ReadError>) -> Result<T, Refusal> {
    result.map_err(|error| match error {
        ReadError::Refused(refusal) => refusal,
        ReadError::Fatal(fatal) => panic!("{fatal}"),
    })
}

pub(super) fn range(store: &Arc<Store>, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
    let mut read = store.range(request)?;
    refused(run(|| read.step()))
}
