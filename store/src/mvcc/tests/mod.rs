//! Tests of the store as a whole, against a model of etcd's rules written for plainness.

mod basics;

use std::sync::Arc;

use proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, RangeResponse};
use proto::internal::{Command, command::Op};

use super::{Applied, Input, Response, Step, Store, StoreOptions};
use crate::engine::{Engine, MemoryEngine};
use crate::{LogId, ReadError, Refusal};

/// A store and the commands it was given, so that a crash can be replayed.
pub(super) struct Harness {
    pub(super) engine: MemoryEngine,
    pub(super) store: Arc<Store>,
    pub(super) log: Vec<Command>,
}

impl Harness {
    pub(super) fn new() -> Self {
        let engine = MemoryEngine::new();
        let store = open(&engine);
        Self { engine, store, log: Vec::new() }
    }

    pub(super) fn apply(&mut self, op: Op) -> Applied {
        let command = Command { op: Some(op) };
        self.log.push(command);
        apply_next(&self.store, self.log.last().unwrap())
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> i64 {
        let put = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        match self.apply(Op::Put(put)).outcome.unwrap() {
            Response::Put(put) => put.header.unwrap().revision,
            other => panic!("not a put: {other:?}"),
        }
    }

    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        let request = CompactionRequest { revision, physical: false };
        self.apply(Op::Compaction(request)).outcome.map(|_| ())
    }

    pub(super) fn settle(&self) {
        while self.store.compact_step().unwrap() {}
    }

    /// Continues on an engine that a crash left, by replaying the log from where that stands.
    pub(super) fn reopen(&mut self, engine: MemoryEngine) {
        self.engine = engine;
        self.store = open(&self.engine);
        let applied = self.store.applied().index as usize;
        for command in &self.log[applied..] {
            apply_next(&self.store, command);
        }
    }
}

pub(super) fn open(engine: &MemoryEngine) -> Arc<Store> {
    let shared: Arc<dyn Engine> = Arc::new(engine.clone());
    Store::open(shared, StoreOptions::default()).unwrap()
}

fn apply_next(store: &Store, command: &Command) -> Applied {
    let index = store.applied().index + 1;
    store.apply(LogId { term: 1, index }, Input::Command(command)).unwrap()
}

pub(super) fn run<T>(mut step: impl FnMut() -> Result<Step<T>, ReadError>) -> T {
    loop {
        if let Step::Done(done) = step().unwrap() {
            return done;
        }
    }
}

pub(super) fn range(store: &Arc<Store>, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
    let mut read = store.range(request)?;
    Ok(run(|| read.step()))
}
