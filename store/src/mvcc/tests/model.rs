//! The model: etcd's rules over plain maps. Every row ever written is kept; each answer is
//! computed from them by looking at all.

use std::collections::{BTreeMap, BTreeSet};

use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};
use proto::{EncodedKeyValue, KeyValue};

use crate::mvcc::{Lease, StoredRow};
use crate::{Refusal, Revision};

/// What an operation answers, in the model's own words.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Put { revision: i64, previous: Option<KeyValue> },
    Delete { revision: i64, deleted: i64, previous: Vec<KeyValue> },
    Range { revision: i64, kvs: Vec<KeyValue>, more: bool, count: i64 },
    Txn { revision: i64, succeeded: bool, answers: Vec<Answer> },
    Grant { revision: i64, id: i64, ttl: i64 },
    Revoke { revision: i64 },
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Every row: key, and the version, or `None` for a tombstone.
    pub(super) rows: BTreeMap<Revision, (Vec<u8>, Option<KeyValue>)>,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) leases: BTreeMap<i64, Lease>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self { rows: BTreeMap::new(), revision: 1, compacted: -1, leases: BTreeMap::new() }
    }

    /// Live versions at a revision, by key.
    pub(super) fn live(&self, main: i64) -> BTreeMap<Vec<u8>, KeyValue> {
        let mut live = BTreeMap::new();
        for (_, (key, version)) in self.rows.range(..=Revision::new(main, i64::MAX)) {
            match version {
                Some(kv) => live.insert(key.clone(), kv.clone()),
                None => live.remove(key),
            };
        }
        live
    }

    pub(super) fn put(&mut self, put: &PutRequest) -> Result<Answer, Refusal> {
        let mut txn = Txn::of(self);
        let answer = txn.put(put)?;
        txn.commit();
        Ok(answer)
    }

    pub(super) fn delete(&mut self, delete: &DeleteRangeRequest) -> Answer {
        let mut txn = Txn::of(self);
        let answer = txn.delete(delete);
        txn.commit();
        answer
    }

    pub(super) fn grant(&mut self, id: i64, ttl: i64) -> Result<Answer, Refusal> {
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        self.leases.insert(id, Lease { id, ttl, remaining: 0 });
        Ok(Answer::Grant { revision: self.revision, id, ttl })
    }

    pub(super) fn revoke(&mut self, id: i64) -> Result<Answer, Refusal> {
        self.leases.remove(&id).ok_or(Refusal::LeaseNotFound)?;
        let attached = self.attached(id);
        let mut txn = Txn::of(self);
        attached.iter().for_each(|key| txn.record(key, None));
        txn.commit();
        Ok(Answer::Revoke { revision: self.revision })
    }

    pub(super) fn note_remaining(&mut self, id: i64, remaining: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.remaining = remaining;
        }
    }

    pub(super) fn attached(&self, id: i64) -> Vec<Vec<u8>> {
        let live = self.live(self.revision).into_iter();
        live.filter(|(_, kv)| kv.lease == id).map(|(key, _)| key).collect()
    }

    pub(super) fn range(&self, range: &RangeRequest) -> Result<Answer, Refusal> {
        self.range_at(range, self.revision)
    }

    fn range_at(&self, range: &RangeRequest, current: i64) -> Result<Answer, Refusal> {
        if range.revision > current {
            return Err(Refusal::FutureRevision);
        }
        let at = if range.revision <= 0 { current } else { range.revision };
        if at < self.compacted {
            return Err(Refusal::Compacted);
        }
        let live = self.live(at);
        let mut kvs: Vec<KeyValue> =
            live.into_values().filter(|kv| within(&kv.key, &range.key, &range.range_end)).collect();
        let count = kvs.len() as i64;
        if range.count_only {
            return Ok(Answer::Range { revision: current, kvs: Vec::new(), more: false, count });
        }
        let order = SortOrder::try_from(range.sort_order).unwrap();
        let target = SortTarget::try_from(range.sort_target).unwrap();
        let limit = if range.limit > 0 { range.limit as usize } else { usize::MAX };
        let filters = [
            range.min_mod_revision,
            range.max_mod_revision,
            range.min_create_revision,
            range.max_create_revision,
        ];
        if order == SortOrder::None && filters == [0; 4] {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.retain(|kv| filters[0] == 0 || kv.mod_revision >= filters[0]);
        kvs.retain(|kv| filters[1] == 0 || kv.mod_revision <= filters[1]);
        kvs.retain(|kv| filters[2] == 0 || kv.create_revision >= filters[2]);
        kvs.retain(|kv| filters[3] == 0 || kv.create_revision <= filters[3]);
        let ascending = |a: &KeyValue, b: &KeyValue| match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        match order {
            SortOrder::Descend => kvs.sort_by(|a, b| ascending(b, a)),
            _ => kvs.sort_by(ascending),
        }
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(Answer::Range { revision: current, kvs, more, count })
    }

    pub(super) fn txn(&mut self, request: &TxnRequest) -> Result<Answer, Refusal> {
        let mut before = self.live(self.revision);
        let path = decide(&before, request);
        self.check(request, &path, &mut before)?;
        let mut txn = Txn::of(self);
        let answer = txn.run(request, &path);
        txn.commit();
        match answer {
            Answer::Txn { succeeded, answers, .. } => {
                Ok(Answer::Txn { revision: self.revision, succeeded, answers })
            }
            other => Ok(other),
        }
    }

    fn check(
        &self,
        request: &TxnRequest,
        path: &Path,
        before: &mut BTreeMap<Vec<u8>, KeyValue>,
    ) -> Result<(), Refusal> {
        let mut nested = path.nested.iter();
        for op in if path.succeeded { &request.success } else { &request.failure } {
            match op.request.as_ref().unwrap() {
                Request::RequestRange(range) if range.revision > self.revision => {
                    return Err(Refusal::FutureRevision);
                }
                Request::RequestRange(range)
                    if range.revision != 0 && range.revision < self.compacted =>
                {
                    return Err(Refusal::Compacted);
                }
                Request::RequestPut(put) => {
                    if (put.ignore_value || put.ignore_lease) && !before.contains_key(&put.key) {
                        return Err(Refusal::KeyNotFound);
                    }
                    if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                        return Err(Refusal::LeaseNotFound);
                    }
                }
                Request::RequestTxn(txn) => self.check(txn, nested.next().unwrap(), before)?,
                // Others are refused when a put of theirs follows.
                Request::RequestDeleteRange(delete) if delete.range_end == [0] => {
                    before.retain(|key, _| *key < delete.key);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the refusal, or drops nothing: the model only remembers.
    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        self.compacted = revision;
        Ok(())
    }

    /// `HashKV` as the definition says, over the rows a compaction at `compacted` leaves.
    pub(super) fn hash(&self, revision: i64, compacted: i64) -> u32 {
        let newest = |main: i64| {
            let mut newest = BTreeMap::new();
            for (at, (key, version)) in self.rows.range(..=Revision::new(main, i64::MAX)) {
                newest.insert(key.clone(), (*at, version.is_some()));
            }
            newest
        };
        let left: BTreeSet<Revision> = newest(compacted)
            .into_values()
            .filter(|(at, live)| *live || at.main == compacted)
            .map(|(at, _)| at)
            .collect();
        let keep: BTreeSet<Revision> =
            newest(revision).into_values().filter(|(_, live)| *live).map(|(at, _)| at).collect();
        let mut bytes = b"key".to_vec();
        for (at, (key, version)) in &self.rows {
            if at.main <= compacted && !left.contains(at) || at.main > revision {
                continue;
            }
            if at.main <= compacted && !keep.is_empty() && !keep.contains(at) {
                continue;
            }
            if at.main == compacted && version.is_none() {
                continue;
            }
            bytes.extend_from_slice(&at.main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend_from_slice(&at.sub.to_be_bytes());
            let kv = match version {
                Some(kv) => kv.clone(),
                None => {
                    bytes.push(b't');
                    KeyValue { key: key.clone().into(), ..KeyValue::default() }
                }
            };
            bytes.extend_from_slice(EncodedKeyValue::new(&kv).as_bytes());
        }
        crc32c::crc32c(&bytes)
    }

    /// Rows a compaction at the watermark leaves.
    pub(super) fn left(&self) -> Vec<Revision> {
        let mut newest = BTreeMap::new();
        for (at, (key, version)) in self.rows.range(..=Revision::new(self.compacted, i64::MAX)) {
            newest.insert(key.clone(), (*at, version.is_some()));
        }
        let kept = newest.into_values();
        let kept = kept.filter(|(at, live)| *live || at.main == self.compacted);
        let mut left: Vec<Revision> = kept.map(|(at, _)| at).collect();
        left.extend(self.rows.keys().filter(|at| at.main > self.compacted));
        left.sort();
        left
    }
}

impl Model {
    /// The row as etcd stores it.
    pub(super) fn stored(&self, at: Revision) -> StoredRow {
        let (key, version) = &self.rows[&at];
        let tombstone = version.is_none();
        let bare = KeyValue { key: key.clone().into(), ..KeyValue::default() };
        let kv = EncodedKeyValue::new(version.as_ref().unwrap_or(&bare));
        StoredRow { at, tombstone, kv }
    }

    /// Bytes of live versions, and of all other rows left.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let size = |key: &[u8], value: &[u8]| (key.len() + value.len() + 24) as u64;
        let live = self.live(self.revision);
        let live = live.values().map(|kv| size(&kv.key, &kv.value)).sum();
        let all: u64 = self
            .left()
            .iter()
            .map(|at| match &self.rows[at] {
                (key, Some(kv)) => size(key, &kv.value),
                (key, None) => size(key, b""),
            })
            .sum();
        (live, all - live)
    }
}

fn kv(row: &EncodedKeyValue) -> KeyValue {
    row.parse().unwrap()
}

impl From<PutResponse> for Answer {
    fn from(response: PutResponse) -> Self {
        let revision = response.header.unwrap().revision;
        Self::Put { revision, previous: response.prev_kv.as_ref().map(kv) }
    }
}

impl From<DeleteRangeResponse> for Answer {
    fn from(response: DeleteRangeResponse) -> Self {
        let previous = response.prev_kvs.iter().map(kv).collect();
        let revision = response.header.unwrap().revision;
        Self::Delete { revision, deleted: response.deleted, previous }
    }
}

impl From<LeaseGrantResponse> for Answer {
    fn from(response: LeaseGrantResponse) -> Self {
        let LeaseGrantResponse { header, id, ttl, .. } = response;
        Self::Grant { revision: header.unwrap().revision, id, ttl }
    }
}

impl From<RangeResponse> for Answer {
    fn from(response: RangeResponse) -> Self {
        let kvs = response.kvs.iter().map(kv).collect();
        let revision = response.header.unwrap().revision;
        Self::Range { revision, kvs, more: response.more, count: response.count }
    }
}

impl From<TxnResponse> for Answer {
    fn from(response: TxnResponse) -> Self {
        let answer = |op: ResponseOp| match op.response.unwrap() {
            Response::ResponseRange(range) => range.into(),
            Response::ResponsePut(put) => put.into(),
            Response::ResponseDeleteRange(delete) => delete.into(),
            Response::ResponseTxn(txn) => txn.into(),
        };
        let answers = response.responses.into_iter().map(answer).collect();
        let revision = response.header.unwrap().revision;
        Self::Txn { revision, succeeded: response.succeeded, answers }
    }
}

struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

fn decide(before: &BTreeMap<Vec<u8>, KeyValue>, request: &TxnRequest) -> Path {
    let succeeded = request.compare.iter().all(|compare| holds(before, compare));
    let ops = if succeeded { &request.success } else { &request.failure };
    let nested = ops.iter().filter_map(|op| match op.request.as_ref().unwrap() {
        Request::RequestTxn(txn) => Some(decide(before, txn)),
        _ => None,
    });
    Path { succeeded, nested: nested.collect() }
}

fn holds(before: &BTreeMap<Vec<u8>, KeyValue>, compare: &Compare) -> bool {
    let mut kvs: Vec<KeyValue> = before
        .values()
        .filter(|kv| within(&kv.key, &compare.key, &compare.range_end))
        .cloned()
        .collect();
    if kvs.is_empty() {
        if compare.target == 3 {
            return false;
        }
        kvs.push(KeyValue::default());
    }
    kvs.iter().all(|kv| {
        let ordering = match compare.target_union.as_ref().unwrap() {
            TargetUnion::Version(version) => kv.version.cmp(version),
            TargetUnion::CreateRevision(revision) => kv.create_revision.cmp(revision),
            TargetUnion::ModRevision(revision) => kv.mod_revision.cmp(revision),
            TargetUnion::Value(value) => kv.value[..].cmp(&value[..]),
            TargetUnion::Lease(lease) => kv.lease.cmp(lease),
        };
        match compare.result {
            0 => ordering.is_eq(),
            1 => ordering.is_gt(),
            2 => ordering.is_lt(),
            _ => ordering.is_ne(),
        }
    })
}

/// Changes on a copy, taken over at the end.
struct Txn<'m> {
    model: &'m mut Model,
    work: Model,
    changes: i64,
}

impl<'m> Txn<'m> {
    fn of(model: &'m mut Model) -> Self {
        let work = model.clone();
        Self { model, work, changes: 0 }
    }

    fn revision(&self) -> i64 {
        self.model.revision + i64::from(self.changes > 0)
    }

    fn commit(self) {
        let revision = self.revision();
        *self.model = self.work;
        self.model.revision = revision;
    }

    fn record(&mut self, key: &[u8], version: Option<KeyValue>) {
        let at = Revision::new(self.model.revision + 1, self.changes);
        self.changes += 1;
        self.work.rows.insert(at, (key.to_vec(), version));
    }

    fn put(&mut self, put: &PutRequest) -> Result<Answer, Refusal> {
        if put.lease != 0 && !self.model.leases.contains_key(&put.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        let main = self.model.revision + 1;
        let previous = self.work.live(main).remove(&put.key);
        if (put.ignore_value || put.ignore_lease) && previous.is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let old = previous.clone().unwrap_or_default();
        let kv = KeyValue {
            key: put.key.clone().into(),
            create_revision: if previous.is_some() { old.create_revision } else { main },
            mod_revision: main,
            version: old.version + 1,
            value: if put.ignore_value { old.value } else { put.value.clone().into() },
            lease: if put.ignore_lease { old.lease } else { put.lease },
        };
        self.record(&put.key, Some(kv));
        let previous = previous.filter(|_| put.prev_kv);
        Ok(Answer::Put { revision: self.revision(), previous })
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> Answer {
        let live = self.work.live(self.model.revision + 1).into_values();
        let gone: Vec<KeyValue> =
            live.filter(|kv| within(&kv.key, &delete.key, &delete.range_end)).collect();
        gone.iter().for_each(|kv| self.record(&kv.key, None));
        let deleted = gone.len() as i64;
        let previous = if delete.prev_kv { gone } else { Vec::new() };
        Answer::Delete { revision: self.revision(), deleted, previous }
    }

    fn run(&mut self, request: &TxnRequest, path: &Path) -> Answer {
        let mut nested = path.nested.iter();
        let ops: &[RequestOp] = if path.succeeded { &request.success } else { &request.failure };
        let mut answers = Vec::new();
        for op in ops {
            answers.push(match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => self.work.range_at(range, self.revision()).unwrap(),
                Request::RequestPut(put) => self.put(put).unwrap(),
                Request::RequestDeleteRange(delete) => self.delete(delete),
                Request::RequestTxn(txn) => self.run(txn, nested.next().unwrap()),
            });
        }
        Answer::Txn { revision: 0, succeeded: path.succeeded, answers }
    }
}

pub(super) fn within(candidate: &[u8], key: &[u8], end: &[u8]) -> bool {
    match end {
        [] => candidate == key,
        [0] => candidate >= key,
        end => candidate >= key && candidate < end,
    }
}
