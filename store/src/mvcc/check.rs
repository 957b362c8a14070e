//! What is wrong with a request whatever the state: checked before it is proposed.
//!
//! The order of the checks is etcd's, because a request that is wrong twice gets the first answer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::Refusal;

/// Transactions within each other. A message is decoded to a depth of 100, each of these takes two,
/// and a log entry wraps the outermost: a command that was logged must be readable for ever.
const NESTED_TXNS_MAX: usize = 48;

pub fn range(request: &RangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Refusal::InvalidSortOption);
    }
    Ok(())
}

/// What a streamed range cannot do, in etcd's words.
pub fn range_stream(request: &RangeRequest) -> Result<(), &'static str> {
    let order = SortOrder::try_from(request.sort_order).unwrap_or_default();
    let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
    let by_key = order == SortOrder::Ascend && target == SortTarget::Key;
    if order != SortOrder::None && !by_key {
        return Err("RangeStream does not support custom sort orders");
    }
    if request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
    {
        return Err("RangeStream does not support revision filters");
    }
    Ok(())
}

pub fn put(request: &PutRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// The most seconds a lease can be granted for.
const LEASE_TTL_MAX: i64 = 9_000_000_000;

pub fn lease_grant(request: &LeaseGrantRequest) -> Result<(), Refusal> {
    match request.ttl > LEASE_TTL_MAX {
        true => Err(Refusal::LeaseTtlTooLarge),
        false => Ok(()),
    }
}

pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    match request.key.is_empty() {
        true => Err(Refusal::EmptyKey),
        false => Ok(()),
    }
}

/// Checks both branches, nested ones included, and that no branch puts a key twice or puts a key
/// it deletes.
pub fn txn(request: &TxnRequest, max_txn_ops: usize) -> Result<(), Refusal> {
    operations(request, max_txn_ops, NESTED_TXNS_MAX)?;
    Changes::of(&request.success)?;
    Changes::of(&request.failure)?;
    Ok(())
}

/// Whether no branch can change anything, so that the log need not hear of it.
pub fn is_read_only(request: &TxnRequest) -> bool {
    ranges(request).all(|range| range.is_some())
}

/// Whether local state is good enough: true for all ranges, hence also without any range.
pub fn is_serializable(request: &TxnRequest) -> bool {
    ranges(request).all(|range| range.is_some_and(|range| range.serializable))
}

fn ranges(request: &TxnRequest) -> impl Iterator<Item = Option<&RangeRequest>> {
    request.success.iter().chain(&request.failure).map(|op| match &op.request {
        Some(Request::RequestRange(range)) => Some(range),
        _ => None,
    })
}

/// A nested transaction has the budget its parent leaves over.
fn operations(request: &TxnRequest, budget: usize, nested_max: usize) -> Result<(), Refusal> {
    let most = request.compare.len().max(request.success.len()).max(request.failure.len());
    let rest = budget.checked_sub(most).ok_or(Refusal::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => {
                let nested_max = nested_max.checked_sub(1).ok_or(Refusal::TooManyOps)?;
                operations(request, rest, nested_max)?;
            }
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What the operations of a branch put and delete, nested ones included.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

/// Keys and ranges that are deleted. Ranges do not overlap, so that one look finds the only one a
/// key can be in, however many there are.
#[derive(Default)]
struct Deletes<'a> {
    keys: BTreeSet<&'a [u8]>,
    /// Their ends, by their starts.
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    /// A delete without an end does not count in etcd: what it deletes can be put again.
    fn add(&mut self, start: &'a [u8], end: &'a [u8]) {
        match end {
            [] => drop(self.keys.insert(start)),
            [0] => {}
            _ if start < end => self.add_range(start, end),
            _ => {}
        }
    }

    fn add_range(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        while let Some((&first, &last)) = self.ranges.range(..=end).next_back()
            && last >= start
        {
            self.ranges.remove(first);
            (start, end) = (start.min(first), end.max(last));
        }
        self.ranges.insert(start, end);
    }

    fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
        other.ranges.into_iter().for_each(|(start, end)| self.add_range(start, end));
    }

    fn contain(&self, key: &[u8]) -> bool {
        let before = (Bound::Unbounded, Bound::Included(key));
        let nearest = self.ranges.range::<[u8], _>(before).next_back();
        self.keys.contains(key) || nearest.is_some_and(|(_, end)| key < *end)
    }
}

impl<'a> Changes<'a> {
    /// Deletes of this level count against all puts; those of a nested transaction against the
    /// puts that follow it and those of this level. Two branches of one transaction exclude each
    /// other, so they may put the same key.
    fn of(ops: &'a [RequestOp]) -> Result<Self, Refusal> {
        let mut changes = Self::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                changes.deletes.add(&delete.key, &delete.range_end);
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(txn)) = &op.request {
                let (then, or_else) = (Self::of(&txn.success)?, Self::of(&txn.failure)?);
                let mut puts = then.puts;
                puts.extend(or_else.puts);
                for key in puts {
                    changes.put(key)?;
                }
                changes.deletes.extend(then.deletes);
                changes.deletes.extend(or_else.deletes);
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                changes.put(&put.key)?;
            }
        }
        Ok(changes)
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), Refusal> {
        match self.deletes.contain(key) || !self.puts.insert(key) {
            true => Err(Refusal::DuplicateKey),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use proto::etcdserverpb::request_op::Request::{RequestDeleteRange, RequestPut, RequestTxn};
    use proto::internal::{Command, command::Op};

    use super::*;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn delete_range_op(start: &[u8], end: &[u8]) -> RequestOp {
        let (key, range_end) = (start.to_vec(), end.to_vec());
        op(RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }))
    }

    fn put_op(key: &[u8]) -> RequestOp {
        op(RequestPut(PutRequest { key: key.to_vec(), ..Default::default() }))
    }

    fn txn_of(success: Vec<RequestOp>) -> TxnRequest {
        TxnRequest { success, ..Default::default() }
    }

    #[test]
    fn what_passes_can_be_read_from_a_log() {
        let nested = |levels: usize| {
            let innermost = txn_of(vec![put_op(b"key")]);
            (0..levels).fold(innermost, |inner, _| txn_of(vec![op(RequestTxn(inner))]))
        };
        let deepest = nested(NESTED_TXNS_MAX);
        assert_eq!(txn(&deepest, 128), Ok(()));
        let logged = Command::from(Op::Txn(deepest.clone())).encode_to_vec();
        assert_eq!(Command::decode(&logged[..]).unwrap().op, Some(Op::Txn(deepest)));
        assert_eq!(txn(&nested(NESTED_TXNS_MAX + 1), 128), Err(Refusal::TooManyOps));
    }

    #[test]
    fn many_deletes_and_puts_are_compared_in_no_time() {
        let key = |n: u32| n.to_be_bytes();
        let mut ops: Vec<_> =
            (0..200_000).map(|n| delete_range_op(&key(2 * n), &key(2 * n + 1))).collect();
        ops.extend((0..200_000).map(|n| put_op(&key(2 * n + 1))));
        assert_eq!(txn(&txn_of(ops.clone()), usize::MAX), Ok(()));
        ops.push(put_op(&key(77 * 2)));
        assert_eq!(txn(&txn_of(ops), usize::MAX), Err(Refusal::DuplicateKey));
    }

    proptest! {
        #[test]
        fn deletes_hold_what_each_of_them_holds(
            first in prop::collection::vec((0_u8..40, 0_u8..40, 0..4), 0..12),
            second in prop::collection::vec((0_u8..40, 0_u8..40, 0..4), 0..12),
        ) {
            let range = |(start, end, kind): &(u8, u8, i32)| match kind {
                0 => (vec![*start], vec![]),
                1 => (vec![*start], vec![0]),
                _ => (vec![*start], vec![*end]),
            };
            let first: Vec<_> = first.iter().map(range).collect();
            let second: Vec<_> = second.iter().map(range).collect();
            let mut deletes = Deletes::default();
            first.iter().for_each(|(start, end)| deletes.add(start, end));
            let mut more = Deletes::default();
            second.iter().for_each(|(start, end)| more.add(start, end));
            deletes.extend(more);
            for key in 0..40_u8 {
                let key = vec![key];
                let held = first.iter().chain(&second).any(|(start, end)| match &end[..] {
                    [] => key == *start,
                    [0] => false,
                    end => key >= *start && &key[..] < end,
                });
                prop_assert_eq!(deletes.contain(&key), held);
            }
        }
    }
}
