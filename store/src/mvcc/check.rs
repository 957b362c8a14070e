//! What is wrong with a request whatever the state: checked before it is proposed.
//!
//! The order of the checks is etcd's, because a request that is wrong twice gets the first answer.

use std::collections::BTreeSet;

use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use crate::Refusal;

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

pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    match request.key.is_empty() {
        true => Err(Refusal::EmptyKey),
        false => Ok(()),
    }
}

/// Checks both branches, nested ones included, and that no branch puts a key twice or puts a key
/// it deletes.
pub fn txn(request: &TxnRequest, max_txn_ops: usize) -> Result<(), Refusal> {
    operations(request, max_txn_ops)?;
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
fn operations(request: &TxnRequest, budget: usize) -> Result<(), Refusal> {
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
            Some(Request::RequestTxn(request)) => operations(request, rest)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What the operations of a branch put and delete, nested ones included.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Changes<'a> {
    /// Deletes of this level count against all puts; those of a nested transaction against the
    /// puts that follow it and those of this level. Two branches of one transaction exclude each
    /// other, so they may put the same key.
    fn of(ops: &'a [RequestOp]) -> Result<Self, Refusal> {
        let mut changes = Self::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                changes.deletes.push((&delete.key, &delete.range_end));
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

    /// A delete without an end does not count in etcd: what it deletes can be put again.
    fn put(&mut self, key: &'a [u8]) -> Result<(), Refusal> {
        let deleted = self.deletes.iter().any(|(start, end)| match *end {
            [] => key == *start,
            [0] => false,
            end => key >= *start && key < end,
        });
        match deleted || !self.puts.insert(key) {
            true => Err(Refusal::DuplicateKey),
            false => Ok(()),
        }
    }
}
