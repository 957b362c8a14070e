//! A store that is given requests or commands, and looked at afterwards.

use std::sync::Arc;

use prost::Message;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, TxnRequest,
};
use proto::internal::{Command, command::Op};
use store::engine::{Engine, MemoryEngine};
use store::mvcc::{HistoryLimits, Input, Step, Store, StoreOptions, check};
use store::{LogId, ReadError};

/// Kinds of parts of an input.
pub const RANGE: u8 = 0;
pub const PUT: u8 = 1;
pub const DELETE: u8 = 2;
pub const TXN: u8 = 3;
pub const COMPACT: u8 = 4;
pub const GRANT: u8 = 5;
pub const REVOKE: u8 = 6;
pub const STREAM: u8 = 7;
pub const KEEP_HOUSE: u8 = 8;
pub const COMMAND: u8 = 9;
const KINDS: u8 = 10;

const TXN_OPS_MAX: usize = 128;
const CHUNK_BYTES: usize = 1 << 10;

/// A member's state without its member.
pub struct Machine {
    engine: MemoryEngine,
    store: Arc<Store>,
}

impl Default for Machine {
    fn default() -> Machine {
        let engine = MemoryEngine::new();
        let store = open(&engine);
        Machine { engine, store }
    }
}

fn open(engine: &MemoryEngine) -> Arc<Store> {
    let engine: Arc<dyn Engine> = Arc::new(engine.clone());
    Store::open(engine, StoreOptions::default()).expect("what a store wrote can be opened")
}

/// Ends what is done in steps. Refusals are answers; a damaged store is none.
fn run<T>(mut step: impl FnMut() -> Result<Step<T>, ReadError>) -> Option<T> {
    loop {
        match step() {
            Ok(Step::More) => {}
            Ok(Step::Done(done)) => return Some(done),
            Err(ReadError::Refused(_)) => return None,
            Err(ReadError::Fatal(fatal)) => panic!("{fatal}"),
        }
    }
}

impl Machine {
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What a client asks, checked as the services do.
    pub fn request(&mut self, kind: u8, bytes: &[u8]) {
        match kind % KINDS {
            RANGE => self.range(bytes),
            PUT => self.propose(bytes, |put| check::put(put).is_ok(), Op::Put),
            DELETE => {
                let check = |delete: &DeleteRangeRequest| check::delete_range(delete).is_ok();
                self.propose(bytes, check, Op::DeleteRange);
            }
            TXN => self.txn(bytes),
            COMPACT => self.propose(bytes, |_: &CompactionRequest| true, Op::Compaction),
            GRANT => {
                let check = |grant: &LeaseGrantRequest| check::lease_grant(grant).is_ok();
                self.propose(bytes, check, Op::LeaseGrant);
            }
            REVOKE => self.propose(bytes, |_: &LeaseRevokeRequest| true, Op::LeaseRevoke),
            STREAM => self.range_stream(bytes),
            KEEP_HOUSE => self.keep_house(),
            _ => {}
        }
    }

    /// What another member sends on, which only its sender has checked.
    pub fn command(&mut self, bytes: &[u8]) {
        if let Ok(command) = Command::decode(bytes) {
            self.apply(&command);
        }
    }

    fn propose<T: Message + Default>(
        &mut self,
        bytes: &[u8],
        check: impl FnOnce(&T) -> bool,
        op: impl FnOnce(T) -> Op,
    ) {
        if let Ok(request) = T::decode(bytes)
            && check(&request)
        {
            let command = Command::from(op(request));
            let logged = command.encode_to_vec();
            let read = Command::decode(&logged[..]).expect("what is logged can be read");
            assert_eq!(read, command);
            self.apply(&command);
        }
    }

    fn apply(&mut self, command: &Command) {
        let index = self.store.applied().index + 1;
        let before = self.store.revision();
        let applied = self.store.apply(LogId { term: 1, index }, Input::Command(command));
        let applied = applied.expect("the engine is in memory");
        let changed = i64::from(applied.events.is_some());
        assert_eq!(self.store.revision(), before + changed);
    }

    fn range(&self, bytes: &[u8]) {
        if let Ok(request) = RangeRequest::decode(bytes)
            && let Ok(mut read) = self.store.range(&request)
        {
            run(|| read.step());
        }
    }

    fn txn(&mut self, bytes: &[u8]) {
        let Ok(txn) = TxnRequest::decode(bytes) else { return };
        if check::txn(&txn, TXN_OPS_MAX).is_err() {
            return;
        }
        if check::is_read_only(&txn) {
            if let Ok(mut read) = self.store.read_txn(&txn) {
                run(|| read.step());
            }
            return;
        }
        self.propose(bytes, |_: &TxnRequest| true, Op::Txn);
    }

    fn range_stream(&self, bytes: &[u8]) {
        let Ok(request) = RangeRequest::decode(bytes) else { return };
        if check::range(&request).is_err() || check::range_stream(&request).is_err() {
            return;
        }
        let Ok(mut read) = self.store.range_stream(&request) else { return };
        loop {
            match read.next_chunk(CHUNK_BYTES) {
                Ok(Some(_)) => {}
                Ok(None) | Err(ReadError::Refused(_)) => return,
                Err(ReadError::Fatal(fatal)) => panic!("{fatal}"),
            }
        }
    }

    fn keep_house(&self) {
        self.store.checkpoint().expect("the engine is in memory");
        while self.store.compact_step().expect("the engine is in memory") {}
    }

    fn hash(&self) -> u32 {
        let revision = self.store.revision();
        let mut read = self.store.hash_kv(revision).expect("the current revision is there");
        run(|| read.step()).expect("and stays there").hash
    }

    /// What the store says is what it says again, after a checkpoint and in the next process.
    pub fn finish(mut self) {
        // What a compaction was told to keep as the hash of its revision is another, as in etcd.
        self.apply(&Command::from(Op::Put(put(b"last", b"", 0))));
        let (revision, sizes, hash) = (self.store.revision(), self.store.sizes(), self.hash());
        let limits = HistoryLimits { revisions: 100, bytes: 1 << 20 };
        let _ = self.store.history(self.store.compacted().max(0) + 1, limits, &|_| true);
        self.keep_house();
        assert_eq!(self.hash(), hash);
        self.store = open(&self.engine);
        assert_eq!(self.store.revision(), revision);
        assert_eq!(self.hash(), hash);
        let found = self.store.sizes();
        assert_eq!((found.live_bytes, found.keys), (sizes.live_bytes, sizes.keys));
    }
}

/// A range over everything, for seeds.
pub fn everything() -> RangeRequest {
    RangeRequest { key: vec![0], range_end: vec![0], ..Default::default() }
}

/// A put, for seeds.
pub fn put(key: &[u8], value: &[u8], lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), lease, ..Default::default() }
}
