//! Random histories, compared with the model answer by answer.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use proto::internal::command::Op;

use super::model::Answer;
use super::{Harness, refused, run};
use crate::mvcc::check;
use crate::{ReadError, Refusal};

#[derive(Clone, Debug)]
enum Action {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Grant(i64),
    Revoke(i64),
    NoteRemaining(i64, i64),
    Range(RangeRequest),
    Stream(RangeRequest, usize),
    Compact(i64),
    CompactSteps(usize),
    Hash(i64),
    Checkpoint,
    /// What a crash keeps of the calls the engine had not flushed.
    Crash(usize),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let keys = [&b"a"[..], b"a/", b"a/1", b"a/2", b"aa", b"b", b"c", b"\0", b"\xff", b"\xff\xff"];
    select(keys.map(<[u8]>::to_vec).to_vec())
}

fn range_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => Just(vec![]), 1 => Just(vec![0]), 3 => key()]
}

fn flag() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.15)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..4),
        1 => (4095..8200_usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ]
}

fn put() -> impl Strategy<Value = PutRequest> {
    let lease = prop_oneof![3 => Just(0), 1 => lease()];
    (key(), value(), flag(), flag(), flag(), lease).prop_map(
        |(key, value, prev_kv, ignore_value, ignore_lease, lease)| PutRequest {
            key,
            value: if ignore_value { vec![] } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

/// Few, so that most are granted.
fn lease() -> impl Strategy<Value = i64> {
    1..4_i64
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

/// Revisions around the ones a short history has.
fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 1 => -2..40_i64]
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let filters = (revision(), revision(), revision(), revision());
    let shape = (0..3_i32, 0..5_i32, -1..4_i64, flag(), flag());
    (key(), range_end(), revision(), shape, filters, any::<bool>()).prop_map(
        |(key, range_end, revision, shape, filters, filtered)| {
            let (sort_order, sort_target, limit, keys_only, count_only) = shape;
            let filters = if filtered { filters } else { (0, 0, 0, 0) };
            RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                serializable: false,
                keys_only,
                count_only,
                min_mod_revision: filters.0,
                max_mod_revision: filters.1,
                min_create_revision: filters.2,
                max_create_revision: filters.3,
            }
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let operand = prop_oneof![
        (0..4_i64).prop_map(TargetUnion::Version),
        (0..20_i64).prop_map(TargetUnion::CreateRevision),
        (0..20_i64).prop_map(TargetUnion::ModRevision),
        vec(any::<u8>(), 0..3).prop_map(TargetUnion::Value),
        (0..4_i64).prop_map(TargetUnion::Lease),
    ];
    let end = prop_oneof![4 => Just(vec![]), 1 => range_end()];
    (key(), end, 0..4_i32, operand).prop_map(|(key, range_end, result, operand)| Compare {
        key,
        range_end,
        result,
        target: match operand {
            TargetUnion::Version(_) => 0,
            TargetUnion::CreateRevision(_) => 1,
            TargetUnion::ModRevision(_) => 2,
            TargetUnion::Value(_) => 3,
            TargetUnion::Lease(_) => 4,
        },
        target_union: Some(operand),
    })
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        3 => range().prop_map(Request::RequestRange),
        3 => put().prop_map(Request::RequestPut),
        2 => delete().prop_map(Request::RequestDeleteRange),
    ];
    let op = leaf.prop_recursive(3, 12, 3, |inner| {
        let ops = || vec(inner.clone(), 0..3);
        (vec(compare(), 0..2), ops(), ops()).prop_map(|(compare, success, failure)| {
            Request::RequestTxn(txn_of(compare, success, failure))
        })
    });
    (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..3))
        .prop_map(|(compare, success, failure)| txn_of(compare, success, failure))
}

fn txn_of(compare: Vec<Compare>, success: Vec<Request>, failure: Vec<Request>) -> TxnRequest {
    let ops = |requests: Vec<Request>| {
        requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
    };
    TxnRequest { compare, success: ops(success), failure: ops(failure) }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => put().prop_map(Action::Put),
        3 => delete().prop_map(Action::Delete),
        6 => txn().prop_map(Action::Txn),
        3 => lease().prop_map(Action::Grant),
        1 => lease().prop_map(Action::Revoke),
        1 => (lease(), 0..100_i64).prop_map(|(id, left)| Action::NoteRemaining(id, left)),
        8 => range().prop_map(Action::Range),
        1 => (range(), 1..4000_usize).prop_map(|(range, bytes)| Action::Stream(range, bytes)),
        2 => (-2..6_i64).prop_map(Action::Compact),
        2 => (1..6_usize).prop_map(Action::CompactSteps),
        1 => (-1..8_i64).prop_map(Action::Hash),
        2 => Just(Action::Checkpoint),
        1 => (0..8_usize).prop_map(Action::Crash),
    ]
}

impl Harness {
    fn act(&mut self, action: &Action) {
        match action {
            Action::Put(put) => {
                if check::put(put).is_ok() {
                    self.check(Op::Put(put.clone()));
                }
            }
            Action::Delete(delete) => self.check(Op::DeleteRange(delete.clone())),
            Action::Txn(txn) => {
                if check::txn(txn, 128).is_err() {
                    return;
                }
                if check::is_read_only(txn) {
                    self.check_read_txn(txn);
                }
                self.check(Op::Txn(txn.clone()));
            }
            Action::Grant(id) => self.grant(*id, id * 100),
            Action::Revoke(id) => self.revoke(*id),
            Action::NoteRemaining(id, left) => self.note_remaining(*id, *left),
            Action::Range(range) => self.check_range(range),
            Action::Stream(range, bytes) => self.check_stream(range, *bytes),
            Action::Compact(back) => {
                // Whether it is refused is compared inside.
                let _ = self.compact(self.model.revision - back);
            }
            Action::CompactSteps(steps) => {
                for _ in 0..*steps {
                    self.store.compact_step().unwrap();
                }
            }
            Action::Hash(back) => self.check_hash(self.model.revision - back),
            Action::Checkpoint => self.store.checkpoint().unwrap(),
            Action::Crash(kept) => {
                let left = self.engine.after_crash(*kept);
                self.reopen(left);
            }
        }
    }

    fn check_read_txn(&self, txn: &TxnRequest) {
        let mut read = self.store.read_txn(txn).unwrap();
        let answer = refused(run(|| read.step())).map(Answer::from);
        assert_eq!(answer, self.model.clone().txn(txn), "{txn:?}");
    }

    /// The chunks together are the plain range.
    fn check_stream(&self, request: &RangeRequest, bytes: usize) {
        if check::range_stream(request).is_err() {
            return;
        }
        let plain = RangeRequest { sort_order: 0, sort_target: 0, ..request.clone() };
        let expected = self.model.range(&plain);
        let stream = self.store.range_stream(request).map(|mut stream| {
            let mut whole = stream.next_chunk(bytes).unwrap().unwrap();
            while let Some(chunk) = stream.next_chunk(bytes).unwrap() {
                assert!(whole.header.is_none() && !whole.more && whole.count == 0);
                whole.kvs.extend(chunk.kvs);
                (whole.header, whole.more, whole.count) = (chunk.header, chunk.more, chunk.count);
            }
            Answer::from(whole)
        });
        assert_eq!(stream, expected);
    }

    fn check_hash(&self, revision: i64) {
        let hash = self.store.hash_kv(revision).map_err(ReadError::from);
        let hash = refused(hash.and_then(|mut read| run(|| read.step())));
        let expected = match revision {
            _ if revision > self.model.revision => Err(Refusal::FutureRevision),
            _ if revision > 0 && revision < self.model.compacted => Err(Refusal::Compacted),
            _ => Ok(()),
        };
        match (hash, expected) {
            // A cached one is as of an older compaction, and outlives the next.
            (Ok(hash), _) => {
                let at = if revision == 0 { hash.hash_revision } else { revision };
                assert_eq!(hash.hash_revision, at);
                assert_eq!(hash.hash, self.model.hash(at, hash.compact_revision));
            }
            (Err(refusal), expected) => assert_eq!(Err(refusal), expected),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_answer_is_the_models(actions in vec(action(), 1..60)) {
        let mut harness = Harness::new();
        for action in &actions {
            harness.act(action);
        }
        harness.check_all();
        harness.settle();
        harness.store.checkpoint().unwrap();
        harness.check_all();
        let left = harness.engine.after_crash(0);
        harness.reopen(left);
        harness.check_all();
    }
}
