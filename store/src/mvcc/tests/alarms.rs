//! What alarms refuse, and that they are part of the state.

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RequestOp, TxnRequest,
};
use proto::internal::command::Op;

use super::{Harness, open};
use crate::Refusal;
use crate::mvcc::{Alarms, Response};

fn alarm(harness: &mut Harness, action: AlarmAction, id: u64, kind: AlarmType) -> Vec<AlarmMember> {
    let request = AlarmRequest { action: action.into(), member_id: id, alarm: kind.into() };
    match harness.apply(Op::Alarm(request)) {
        Ok(Response::Alarm(response)) => response.alarms,
        other => panic!("{other:?}"),
    }
}

fn put(key: &[u8], value: &[u8]) -> Op {
    Op::Put(PutRequest { key: key.into(), value: value.into(), ..Default::default() })
}

fn txn(ops: impl IntoIterator<Item = Op>) -> Op {
    let success = ops.into_iter().map(|op| {
        let request = match op {
            Op::Put(put) => Request::RequestPut(put),
            Op::DeleteRange(delete) => Request::RequestDeleteRange(delete),
            Op::Txn(txn) => Request::RequestTxn(txn),
            other => panic!("{other:?} is no operation of a transaction"),
        };
        RequestOp { request: Some(request) }
    });
    Op::Txn(TxnRequest { success: success.collect(), ..TxnRequest::default() })
}

fn delete(key: &[u8]) -> Op {
    Op::DeleteRange(DeleteRangeRequest { key: key.into(), ..Default::default() })
}

#[test]
fn without_space_only_growth_is_refused() {
    let mut harness = Harness::new();
    harness.grant(7, 60);
    harness.put(b"a", b"four");
    harness.put(b"b", b"four");
    alarm(&mut harness, AlarmAction::Activate, 1, AlarmType::Nospace);
    let grown = [
        put(b"new", b""),
        put(b"a", b"four!"),
        txn([put(b"new", b"")]),
        txn([delete(b"b"), put(b"a", b"four!")]),
        txn([txn([put(b"a", b"four!")])]),
        Op::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 8 }),
    ];
    for op in grown {
        assert!(harness.store.would_grow(&op), "{op:?}");
        assert_eq!(harness.apply(op.clone()), Err(Refusal::NoSpace), "{op:?}");
    }
    let not_grown = [
        put(b"a", b"for "),
        put(b"a", b""),
        txn([put(b"b", b"five"), delete(b"a")]),
        delete(b"b"),
        Op::LeaseRevoke(LeaseRevokeRequest { id: 7 }),
        Op::Compaction(CompactionRequest { revision: 3, physical: false }),
    ];
    for op in not_grown {
        assert!(!harness.store.would_grow(&op), "{op:?}");
        assert!(harness.apply(op.clone()).is_ok(), "{op:?}");
    }
    alarm(&mut harness, AlarmAction::Deactivate, 1, AlarmType::Nospace);
    assert!(harness.apply(put(b"new", b"larger")).is_ok());
}

#[test]
fn corruption_refuses_every_change() {
    let mut harness = Harness::new();
    harness.grant(7, 60);
    harness.put(b"a", b"1");
    alarm(&mut harness, AlarmAction::Activate, 1, AlarmType::Corrupt);
    let changes = [
        put(b"a", b""),
        delete(b"a"),
        txn([]),
        Op::Compaction(CompactionRequest { revision: 2, physical: false }),
        Op::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 8 }),
        Op::LeaseRevoke(LeaseRevokeRequest { id: 7 }),
    ];
    for op in changes {
        assert_eq!(harness.apply(op.clone()), Err(Refusal::Corrupt), "{op:?}");
    }
    alarm(&mut harness, AlarmAction::Deactivate, 1, AlarmType::Corrupt);
    harness.put(b"a", b"2");
    harness.check_all();
}

#[test]
fn alarms_are_listed_counted_once_and_outlive_a_restart() {
    let mut harness = Harness::new();
    let (space, corrupt) = (AlarmType::Nospace, AlarmType::Corrupt);
    let one = |member_id, kind: AlarmType| AlarmMember { member_id, alarm: kind.into() };
    for (id, kind) in [(2, space), (1, space), (1, space), (3, corrupt)] {
        assert_eq!(alarm(&mut harness, AlarmAction::Activate, id, kind), [one(id, kind)]);
    }
    assert_eq!(alarm(&mut harness, AlarmAction::Activate, 1, AlarmType::None), []);
    let all = [one(1, space), one(2, space), one(3, corrupt)];
    assert_eq!(alarm(&mut harness, AlarmAction::Get, 0, AlarmType::None), all);
    assert_eq!(alarm(&mut harness, AlarmAction::Get, 0, corrupt), all[2..]);
    assert_eq!(alarm(&mut harness, AlarmAction::Deactivate, 0, space), []);
    assert_eq!(alarm(&mut harness, AlarmAction::Deactivate, 1, space), [one(1, space)]);
    assert_eq!(alarm(&mut harness, AlarmAction::Deactivate, 3, corrupt), [one(3, corrupt)]);

    harness.store.checkpoint().unwrap();
    let again = open(&harness.engine);
    assert_eq!(again.alarms(0), [one(2, space)]);
    assert_eq!(again.active_alarms(), Alarms { no_space: true, corrupt: false });
}
