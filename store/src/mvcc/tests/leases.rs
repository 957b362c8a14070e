//! What leases do to keys, beyond the random histories.

use proto::etcdserverpb::LeaseRevokeRequest;
use proto::internal::{Command, command::Op};
use proto::mvccpb::event::EventType;

use super::Harness;
use crate::mvcc::leases::{Lease, Leases};
use crate::mvcc::{Input, Response};
use crate::{LogId, Refusal};

#[test]
fn a_revoke_deletes_its_keys_in_order_in_one_revision() {
    let mut harness = Harness::new();
    harness.grant(7, 60);
    harness.grant(8, 60);
    for key in [b"c", b"a", b"d", b"b", b"e"] {
        harness.put_leased(key, 7);
    }
    harness.put_leased(b"d", 8);
    harness.put(b"e", b"detached");
    harness.delete(b"b", b"");
    assert_eq!(harness.store.lease_keys(7), Some(vec![b"a".to_vec(), b"c".to_vec()]));
    harness.revoke(7);
    let events = harness.published.last().unwrap();
    let deleted: Vec<_> = events.events.iter().map(|event| &event.key[..]).collect();
    assert_eq!(deleted, [b"a", b"c"]);
    assert!(events.events.iter().all(|it| it.kind == EventType::Delete && it.previous.is_some()));
    // One without keys changes nothing.
    harness.grant(9, 60);
    let before = harness.store.revision();
    harness.revoke(9);
    assert_eq!(harness.store.revision(), before);
    harness.check_all();
}

#[test]
fn leases_count_as_long_as_they_live() {
    let mut harness = Harness::new();
    let before = harness.store.used_bytes();
    (1..=10).for_each(|id| harness.grant(id, 9_000_000_000));
    assert_eq!(harness.store.used_bytes(), before + 10 * 300);
    (1..=10).for_each(|id| harness.revoke(id));
    assert_eq!(harness.store.used_bytes(), before);
}

#[test]
fn what_a_leader_decided_by_its_clock_counts_in_its_term_only() {
    let mut harness = Harness::new();
    harness.grant(7, 60);
    let revoke = Op::LeaseRevoke(LeaseRevokeRequest { id: 7 });
    let apply = |term: u64, only_in_term| {
        let op = Some(revoke.clone());
        let command = Command { op, only_in_term, ..Command::default() };
        let index = harness.store.applied().index + 1;
        let input = Input::Command(&command);
        harness.store.apply(LogId { term, index }, input).unwrap().outcome
    };
    assert_eq!(apply(2, 1), Ok(Response::None));
    assert!(harness.store.lease(7).is_some());
    assert!(apply(2, 2).is_ok());
    assert!(harness.store.lease(7).is_none());
    assert_eq!(apply(2, 2), Err(Refusal::LeaseNotFound));
}

#[test]
fn a_hundred_thousand_leases_are_small() {
    let mut leases = Leases::default();
    let keys = 100_000;
    for n in 0..keys {
        let id = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as i64 | 1;
        leases.grant(Lease { id, ttl: 60, remaining: 0 });
        let key = format!("/registry/masterleases/{n:016x}");
        leases.move_key(key.as_bytes(), None, leases.handle(id));
    }
    let per_lease = leases.heap_bytes() / keys;
    assert!(per_lease <= 170, "{per_lease} bytes a lease");
}
