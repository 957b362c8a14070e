//! Leases: how long each was granted for, and the keys that go with it.
//!
//! When a lease ends is not known here: a leader keeps the time, and proposes that it be revoked.
//! A key's slot in the index names its lease by a handle, so that the key is found in the lease's
//! list when it moves to another or is deleted. The lists follow from the rows and are not stored.
//!
//! A lease has a row in the engine. A checkpoint writes those that changed, together with the meta
//! row; that of a lease which is gone is marked first and removed when the mark is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use bytes::Bytes;
use prost::Message;

use super::rows;
use super::store::Store;
use crate::Fatal;
use crate::engine::WriteBatch;
use prost::encoding::{decode_varint, encode_varint};

/// What a lease counts towards the quota: the RAM that it was measured to cost a leader, with its
/// deadline and a key. Also one without keys, whose grant nothing else counts.
const LEASE_BYTES: u64 = 300;

/// What a change costs in RAM until the next checkpoint, roughly.
const CHANGE_BYTES: usize = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    pub id: i64,
    /// Seconds it was granted for.
    pub ttl: i64,
    /// Seconds that were left when a leader last noted it; 0 when none has since it was renewed.
    pub remaining: i64,
}

/// As etcd stores it.
#[derive(Clone, PartialEq, Message)]
struct EtcdLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining: i64,
}

impl Lease {
    /// Key and value in etcd's bucket.
    pub(crate) fn to_bucket(self) -> ([u8; 8], Vec<u8>) {
        let Self { id, ttl, remaining } = self;
        (id.to_be_bytes(), EtcdLease { id, ttl, remaining }.encode_to_vec())
    }

    /// `None` if it is no lease.
    pub(crate) fn from_bucket(key: &[u8], value: &[u8]) -> Option<Self> {
        let EtcdLease { id, ttl, remaining } = EtcdLease::decode(value).ok()?;
        (id != 0 && key == id.to_be_bytes()).then_some(Self { id, ttl, remaining })
    }
}

/// Where a lease is. Valid as long as the lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(NonZeroU32);

impl Handle {
    fn at(position: usize) -> Self {
        let number = u32::try_from(position + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("there is no room for 2^32 leases"))
    }

    fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The keys of a lease. Most have none or one.
#[derive(Debug, Default)]
enum Keys {
    #[default]
    None,
    One(Box<[u8]>),
    Many(BTreeSet<Box<[u8]>>),
}

impl Keys {
    fn insert(&mut self, key: &[u8]) {
        match self {
            Self::None => *self = Self::One(key.into()),
            Self::One(known) if **known == *key => {}
            Self::One(known) => {
                let known = std::mem::take(known);
                *self = Self::Many([known, key.into()].into());
            }
            Self::Many(known) => drop(known.insert(key.into())),
        }
    }

    fn remove(&mut self, key: &[u8]) {
        match self {
            Self::One(known) if **known == *key => *self = Self::None,
            Self::Many(known) => {
                known.remove(key);
                if known.is_empty() {
                    *self = Self::None;
                }
            }
            Self::None | Self::One(_) => {}
        }
    }

    fn first(&self) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::One(key) => Some(key),
            Self::Many(keys) => keys.first().map(|key| &**key),
        }
    }

    fn to_vec(&self) -> Vec<Vec<u8>> {
        match self {
            Self::None => Vec::new(),
            Self::One(key) => vec![key.to_vec()],
            Self::Many(keys) => keys.iter().map(|key| key.to_vec()).collect(),
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    lease: Lease,
    keys: Keys,
    /// The engine has a row of this id, or a checkpoint is writing one.
    stored: bool,
}

/// All leases. Ordered by the bytes of their ids, as etcd's bucket is.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_id: BTreeMap<u64, Handle>,
    slots: Vec<Slot>,
    /// Handles of leases that are gone.
    free: Vec<Handle>,
    /// Ids whose row in the engine is not as it should be.
    changed: BTreeSet<u64>,
}

/// What a checkpoint does about leases: their rows, `None` for one that is gone.
pub(super) type Changes = Vec<(i64, Option<Lease>)>;

impl Leases {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.len() as u64 * LEASE_BYTES
    }

    pub(super) fn handle(&self, id: i64) -> Option<Handle> {
        self.by_id.get(&(id as u64)).copied()
    }

    pub(super) fn get(&self, id: i64) -> Option<Lease> {
        self.handle(id).map(|handle| self.slots[handle.position()].lease)
    }

    pub(super) fn list(&self) -> Vec<Lease> {
        self.by_id.values().map(|handle| self.slots[handle.position()].lease).collect()
    }

    /// The keys of a lease, in order.
    fn keys(&self, id: i64) -> Option<Vec<Vec<u8>>> {
        self.handle(id).map(|handle| self.slots[handle.position()].keys.to_vec())
    }

    /// The first key of a lease.
    pub(super) fn first_key(&self, handle: Handle) -> Option<&[u8]> {
        self.slots[handle.position()].keys.first()
    }

    /// Adds a lease whose id is free.
    pub(super) fn grant(&mut self, lease: Lease) {
        // A row of an earlier lease with this id may be waiting for its removal.
        let stored = !self.changed.insert(lease.id as u64);
        self.add(Slot { lease, stored, ..Slot::default() });
    }

    /// Takes over a row of the engine. One that is marked as gone is to be removed.
    pub(super) fn restore(&mut self, id: i64, lease: Option<Lease>) {
        match lease {
            Some(lease) => self.add(Slot { lease, stored: true, ..Slot::default() }),
            None => drop(self.changed.insert(id as u64)),
        }
    }

    fn add(&mut self, slot: Slot) {
        let id = slot.lease.id as u64;
        let handle = match self.free.pop() {
            Some(handle) => {
                self.slots[handle.position()] = slot;
                handle
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    // Doubling would leave half of a long list empty.
                    self.slots.reserve_exact(self.slots.len() / 8 + 64);
                }
                self.slots.push(slot);
                Handle::at(self.slots.len() - 1)
            }
        };
        let before = self.by_id.insert(id, handle);
        assert!(before.is_none(), "an id is granted once");
    }

    /// Notes how much is left of a lease, if it is there.
    pub(super) fn checkpoint(&mut self, id: i64, remaining: i64) {
        let Some(handle) = self.handle(id) else { return };
        let lease = &mut self.slots[handle.position()].lease;
        if lease.remaining != remaining {
            lease.remaining = remaining;
            self.changed.insert(id as u64);
        }
    }

    /// Forgets a lease that has no keys left.
    pub(super) fn remove(&mut self, id: i64) {
        let Some(handle) = self.by_id.remove(&(id as u64)) else { return };
        let slot = std::mem::take(&mut self.slots[handle.position()]);
        assert!(slot.keys.first().is_none(), "the keys of a lease go before it");
        match slot.stored {
            true => self.changed.insert(id as u64),
            false => self.changed.remove(&(id as u64)),
        };
        self.free.push(handle);
    }

    /// Moves a key from one lease to another.
    pub(super) fn move_key(&mut self, key: &[u8], from: Option<Handle>, to: Option<Handle>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.slots[from.position()].keys.remove(key);
        }
        if let Some(to) = to {
            self.slots[to.position()].keys.insert(key);
        }
    }

    /// What the engine's rows lack, which is on its way to them from now on.
    pub(super) fn take_changes(&mut self) -> Changes {
        let changed = std::mem::take(&mut self.changed);
        let change = |id: u64| {
            let handle = self.by_id.get(&id);
            let lease = handle.map(|handle| {
                let slot = &mut self.slots[handle.position()];
                slot.stored = true;
                slot.lease
            });
            (id as i64, lease)
        };
        changed.into_iter().map(change).collect()
    }

    /// RAM that a checkpoint would give back.
    pub(super) fn changed_bytes(&self) -> usize {
        self.changed.len() * CHANGE_BYTES
    }

    /// Bytes on the heap, without the allocator's own.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let keys = |keys: &Keys| match keys {
            Keys::None => 0,
            Keys::One(key) => key.len(),
            // A node of a tree is about two thirds full.
            Keys::Many(keys) => keys.iter().map(|key| key.len() + 24).sum(),
        };
        let slots: usize = self.slots.iter().map(|slot| keys(&slot.keys)).sum();
        slots
            + self.slots.capacity() * size_of::<Slot>()
            + self.free.capacity() * size_of::<Handle>()
            + self.by_id.len() * size_of::<(u64, Handle)>() * 3 / 2
            + self.changed.len() * size_of::<u64>() * 3 / 2
    }
}

fn row_key(id: i64) -> Bytes {
    let mut key = vec![rows::LEASE_ROWS];
    key.extend_from_slice(&id.to_be_bytes());
    key.into()
}

/// Adds the row of a lease, or the mark that it is gone. Returns its size, roughly.
pub(super) fn put_row(batch: &mut WriteBatch, id: i64, lease: Option<Lease>) -> usize {
    let key = row_key(id);
    let mut body = Vec::new();
    if let Some(lease) = lease {
        encode_varint(lease.ttl as u64, &mut body);
        encode_varint(lease.remaining as u64, &mut body);
    }
    let row = rows::seal(&key, body);
    let bytes = key.len() + row.len();
    batch.put(key, row);
    bytes
}

/// The rows of leases that are gone.
pub(super) fn gone_rows(changes: &Changes) -> impl Iterator<Item = Bytes> {
    changes.iter().filter(|(_, lease)| lease.is_none()).map(|(id, _)| row_key(*id))
}

/// Reads a row of the engine: `None` behind the id when it only marks that the lease is gone.
pub(super) fn scanned_row(key: &[u8], row: &[u8]) -> Result<(i64, Option<Lease>), Fatal> {
    let malformed = || Fatal::Engine(format!("the row of a lease is malformed ({key:02x?})"));
    let mut body = rows::unseal(key, row)?;
    let id = key.get(1..).and_then(|id| id.try_into().ok()).ok_or_else(malformed)?;
    let id = i64::from_be_bytes(id);
    if body.is_empty() {
        return Ok((id, None));
    }
    let mut number = || decode_varint(&mut body).map_err(|_| malformed());
    let (ttl, remaining) = (number()? as i64, number()? as i64);
    Ok((id, Some(Lease { id, ttl, remaining })))
}

impl Store {
    pub fn lease(&self, id: i64) -> Option<Lease> {
        self.state().leases.get(id)
    }

    /// All leases, in the order of etcd's bucket.
    pub fn leases(&self) -> Vec<Lease> {
        self.state().leases.list()
    }

    /// The keys of a lease, in order; `None` if there is no such lease.
    pub fn lease_keys(&self, id: i64) -> Option<Vec<Vec<u8>>> {
        self.state().leases.keys(id)
    }
}
