//! The conditions of a transaction.

use std::cmp::Ordering;

use proto::EncodedKeyValue;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::{Compare, RangeRequest};

use super::range::RangeWork;
use super::rows::{self, Fields};
use super::state::State;
use super::store::{Step, Store};
use crate::Fatal;

/// Evaluates one condition in bounded steps, at one revision.
pub(super) struct CompareWork {
    /// Reads the keys of the condition, until they are known.
    range: RangeWork,
    verdict: Option<bool>,
}

impl CompareWork {
    /// Looks at `revision`, the current one.
    pub(super) fn begin(state: &State, compare: &Compare, revision: i64) -> Self {
        let request = RangeRequest {
            key: compare.key.clone(),
            range_end: compare.range_end.clone(),
            ..RangeRequest::default()
        };
        let verdict = at_once(state, compare, revision);
        let range = match verdict {
            Some(_) => RangeWork::nothing(revision),
            None => RangeWork::begin(state, &request, revision, -1)
                .expect("the current revision is neither compacted nor in the future"),
        };
        Self { range, verdict }
    }

    pub(super) fn step(&mut self, store: &Store, compare: &Compare) -> Result<Step<bool>, Fatal> {
        if let Some(verdict) = self.verdict {
            return Ok(Step::Done(verdict));
        }
        match self.range.step(store)? {
            Step::More => Ok(Step::More),
            Step::Done(response) => Ok(Step::Done(all(compare, &response.kvs))),
        }
    }
}

/// The verdict on a single key whose row is in RAM, or about which the index knows enough.
fn at_once(state: &State, compare: &Compare, revision: i64) -> Option<bool> {
    if !compare.range_end.is_empty() {
        return None;
    }
    let found = state.index.find(&compare.key).and_then(|slot| slot.at(revision));
    let Some((record, lineage)) = found.filter(|(record, _)| !record.is_tombstone()) else {
        return Some(all(compare, &[]));
    };
    if let Some(row) = state.row(record.revision()) {
        return Some(all(compare, std::slice::from_ref(&row.kv)));
    }
    let needs_row = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => true,
        Ok(CompareTarget::Lease) => record.is_leased(),
        _ => false,
    };
    let facts = Fields { lineage: lineage?, main: record.main, ..Fields::default() };
    (!needs_row).then(|| holds(compare, &facts, b""))
}

/// Whether the condition holds for all keys; for no key, whether it holds for one that is all
/// zeros. A value that is not there equals nothing and differs from nothing.
fn all(compare: &Compare, kvs: &[EncodedKeyValue]) -> bool {
    if kvs.is_empty() {
        let by_value = compare.target == CompareTarget::Value as i32;
        return !by_value && holds(compare, &Fields::default(), b"");
    }
    kvs.iter().all(|kv| {
        let fields = rows::own_fields(kv);
        holds(compare, &fields, &kv.as_bytes()[fields.value.clone()])
    })
}

/// An operand of another kind than the target counts as zero, as in etcd.
fn holds(compare: &Compare, fields: &Fields, value: &[u8]) -> bool {
    let operand = compare.target_union.as_ref();
    let number = |number: i64, pick: fn(&TargetUnion) -> Option<i64>| {
        number.cmp(&operand.and_then(pick).unwrap_or(0))
    };
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => match operand {
            Some(TargetUnion::Value(operand)) => value.cmp(operand),
            _ => value.cmp(b""),
        },
        Ok(CompareTarget::Version) => number(fields.lineage.version, |operand| match operand {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        }),
        Ok(CompareTarget::Create) => number(fields.lineage.created, |operand| match operand {
            TargetUnion::CreateRevision(revision) => Some(*revision),
            _ => None,
        }),
        Ok(CompareTarget::Mod) => number(fields.main, |operand| match operand {
            TargetUnion::ModRevision(revision) => Some(*revision),
            _ => None,
        }),
        Ok(CompareTarget::Lease) => number(fields.lease, |operand| match operand {
            TargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        }),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
