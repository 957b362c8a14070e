//! The hashes members compare: equal history gives equal hashes, also between kvd and etcd.
//!
//! `HashKV` at a revision covers the rows up to it, without those that a compaction at the
//! watermark makes superfluous, whether or not they are removed yet. For the newest compactions
//! the hash is taken before the removal and kept, because members compare those.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::generations::Slot;
use super::index::Visit;
use super::leaf::KeyParts;
use super::pins::Pin;
use super::range::STEP_KEYS;
use super::scan::{Scan, StoredRow};
use super::store::{Step, Store};
use crate::{Fatal, ReadError, Refusal, Revision};

pub(super) const HASHES_KEPT: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C.
    pub hash: u32,
    pub compact_revision: i64,
    pub hash_revision: i64,
}

/// A hash on its way; see [`Store::hash_kv`].
pub struct HashKvRead {
    store: Arc<Store>,
    work: Result<HashWork, HashKv>,
    _pin: Option<Pin>,
}

/// A hash of everything on its way; see [`Store::hash`].
pub struct HashRead {
    store: Arc<Store>,
    scan: Scan,
    crc: u32,
    /// The buckets that follow the rows, in order: name, then keys and values.
    rest: Vec<Vec<u8>>,
    _pin: Pin,
}

impl Store {
    /// Begins the hash of the rows up to `revision`; 0 is the current one.
    pub fn hash_kv(self: &Arc<Self>, revision: i64) -> Result<HashKvRead, Refusal> {
        let state = self.state();
        let store = self.clone();
        if let Some(known) = state.hashes.iter().find(|hash| hash.hash_revision == revision) {
            return Ok(HashKvRead { store, work: Err(*known), _pin: None });
        }
        if revision > 0 && revision < state.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > state.revision {
            return Err(Refusal::FutureRevision);
        }
        // The hash of a compaction is the same whether or not it is taken already.
        let (compacted, counts) = match state.due.hashed_from(revision) {
            Some(previous) => (previous, Counts::LiveOrJustDeleted),
            None => (state.compacted, Counts::Live),
        };
        let revision = if revision == 0 { state.revision } else { revision };
        let work = Ok(HashWork::new(revision, compacted, counts));
        Ok(HashKvRead { store, work, _pin: Some(self.pin(compacted)) })
    }

    /// Those that the newest compactions left, the newest first.
    pub fn compaction_hashes(&self) -> Vec<HashKv> {
        self.state().hashes.iter().rev().copied().collect()
    }

    /// Begins the hash of rows and tables, everything but what members rightly differ in.
    pub fn hash(self: &Arc<Self>) -> HashRead {
        let state = self.state();
        let mut meta = state.meta();
        let pin = self.pin(state.compacted);
        let members = meta.members.iter().map(|member| {
            let id = format!("{:x}", member.id);
            (id.into(), format!("{member:?}").into())
        });
        meta.tables.insert("members".into(), members.collect());
        let leases = state.leases.list().into_iter().map(|lease| {
            let (key, value) = lease.to_bucket();
            (Bytes::copy_from_slice(&key), value.into())
        });
        meta.tables.insert("lease".into(), leases.collect());
        self.auth().put_tables(&mut meta.tables);
        let scheduled = row_key(Revision::new(meta.compacted, 0), false);
        let marks = [("scheduledCompactRev".into(), scheduled.into())];
        meta.tables.insert("meta".into(), marks.into());
        let mut crc = 0;
        let mut rest = Vec::new();
        for (bucket, table) in meta.tables {
            let pairs = table.into_iter().flat_map(|(key, value)| [key, value]);
            let bytes = pairs.fold(bucket.clone().into_bytes(), |mut bytes, part| {
                bytes.extend_from_slice(&part);
                bytes
            });
            match bucket.as_str() < "key" {
                true => crc = crc32c::crc32c_append(crc, &bytes),
                false => rest.push(bytes),
            }
        }
        let crc = crc32c::crc32c_append(crc, b"key");
        HashRead {
            store: self.clone(),
            scan: Scan::new(meta.revision, meta.compacted),
            crc,
            rest,
            _pin: pin,
        }
    }
}

impl HashKvRead {
    /// Does a bounded piece of work. Callers let others run between two calls.
    pub fn step(&mut self) -> Result<Step<HashKv>, ReadError> {
        match &mut self.work {
            Ok(work) => Ok(work.step(&self.store)?),
            Err(known) => Ok(Step::Done(*known)),
        }
    }
}

impl HashRead {
    /// Does a bounded piece of work. Callers let others run between two calls.
    pub fn step(&mut self) -> Result<Step<u32>, ReadError> {
        if let Some(rows) = self.scan.step(&self.store, &|_, _, _| true)? {
            self.crc = rows.iter().fold(self.crc, append);
            return Ok(Step::More);
        }
        let rest = std::mem::take(&mut self.rest);
        self.crc = rest.iter().fold(self.crc, |crc, bytes| crc32c::crc32c_append(crc, bytes));
        Ok(Step::Done(self.crc))
    }
}

/// A `HashKV` apart from what keeps its rows in place.
pub(super) struct HashWork {
    revision: i64,
    compacted: i64,
    counts: Counts,
    crc: u32,
    stage: Stage,
}

/// What makes older rows that were superseded not count: something that is there at the revision. Else
/// they count as long as they lie there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    Live,
    /// Or was deleted by just that revision: in hashes of compactions, which keep such tombstones.
    LiveOrJustDeleted,
}

enum Stage {
    /// Looks from this key on for one that is there at the revision.
    Live(Vec<u8>),
    Rows {
        scan: Scan,
        any_live: bool,
    },
}

impl HashWork {
    pub(super) fn new(revision: i64, compacted: i64, counts: Counts) -> Self {
        let (crc, stage) = (crc32c::crc32c(b"key"), Stage::Live(Vec::new()));
        Self { revision, compacted, counts, crc, stage }
    }

    pub(super) fn step(&mut self, store: &Store) -> Result<Step<HashKv>, Fatal> {
        let (revision, compacted) = (self.revision, self.compacted);
        match &mut self.stage {
            Stage::Live(from) => {
                let counts = self.counts;
                let mut live = AnyLive { revision, counts, found: false, budget: STEP_KEYS };
                let next = store.state().index.walk(from, None, &mut live);
                match next {
                    Some(next) if !live.found => *from = next,
                    _ => {
                        let scan = Scan::new(revision, compacted);
                        self.stage = Stage::Rows { scan, any_live: live.found };
                    }
                }
            }
            Stage::Rows { scan, any_live } => {
                // A compaction at the revision would drop more; but if nothing is live there,
                // nothing counts as dropped.
                let select = |slot: &Slot, at: Revision, tombstone: bool| match tombstone {
                    _ if at.main > compacted => true,
                    true => false,
                    false if !*any_live => true,
                    false => slot.at(revision).is_some_and(|(record, _)| record.revision() == at),
                };
                match scan.step(store, &select)? {
                    Some(rows) => self.crc = rows.iter().fold(self.crc, append),
                    None => {
                        return Ok(Step::Done(HashKv {
                            hash: self.crc,
                            compact_revision: compacted,
                            hash_revision: revision,
                        }));
                    }
                }
            }
        }
        Ok(Step::More)
    }
}

fn append(crc: u32, row: &StoredRow) -> u32 {
    let crc = crc32c::crc32c_append(crc, &row_key(row.at, row.tombstone));
    crc32c::crc32c_append(crc, row.kv.as_bytes())
}

/// The key etcd stores a row under.
fn row_key(at: Revision, tombstone: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.put_i64(at.main);
    key.put_u8(b'_');
    key.put_i64(at.sub);
    if tombstone {
        key.put_u8(b't');
    }
    key
}

struct AnyLive {
    revision: i64,
    counts: Counts,
    found: bool,
    budget: usize,
}

impl<'s> Visit<'s> for AnyLive {
    fn slot(&mut self, _key: KeyParts<'s>, slot: &'s Slot) -> ControlFlow<()> {
        let just_deleted = self.counts == Counts::LiveOrJustDeleted;
        self.found = slot.at(self.revision).is_some_and(|(record, _)| {
            !record.is_tombstone() || just_deleted && record.revision().main == self.revision
        });
        if self.found || self.budget == 0 {
            return ControlFlow::Break(());
        }
        self.budget -= 1;
        ControlFlow::Continue(())
    }
}
