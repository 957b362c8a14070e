//! The index: every key with its records, ordered, in RAM. Values are elsewhere.
//!
//! Leaves of up to 128 keys hang in an ordered map by a separator: the leaf under a separator
//! holds the keys from it up to the next one. The sums a leaf keeps let counts and compactions
//! pass over it without looking at its keys.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use super::generations::{Lineage, Record, Slot, Trimmed};
use super::leaf::{KeyParts, LEAF_SLOTS_MAX, Leaf, shared_prefix};
use super::leases::Handle;
use crate::Revision;

/// Leaves shorter than this are joined with the next after a compaction.
const LEAF_SLOTS_MIN: usize = 32;

#[derive(Debug)]
pub(super) struct Index {
    /// Never empty: the first separator is the empty key.
    leaves: BTreeMap<Box<[u8]>, Leaf>,
    live: u64,
}

/// What a put did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put {
    pub(super) lineage: Lineage,
    /// The record that was the newest, live or not.
    pub(super) superseded: Option<Record>,
    /// The lease it was attached to.
    pub(super) detached: Option<Handle>,
}

/// Whether a walk looks at the keys of a leaf.
pub(super) enum Leafwise {
    Enter,
    Skip,
    Stop,
}

/// What a walk over the index does on its way.
pub(super) trait Visit<'a> {
    /// Asked for each leaf that lies wholly inside the range.
    fn leaf(&mut self, _leaf: &Leaf) -> Leafwise {
        Leafwise::Enter
    }

    /// Called for each key in order. A break ends the walk before that key.
    fn slot(&mut self, key: KeyParts<'a>, slot: &'a Slot) -> ControlFlow<()>;
}

impl Index {
    pub(super) fn new() -> Self {
        Self { leaves: BTreeMap::from([(Box::default(), Leaf::default())]), live: 0 }
    }

    /// Live keys.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<&Slot> {
        let (_, leaf) = self.leaves.range::<[u8], _>(up_to(key)).next_back()?;
        leaf.find(key).ok().map(|position| leaf.slot(position))
    }

    fn leaf_mut(&mut self, key: &[u8]) -> &mut Leaf {
        let leaf = self.leaves.range_mut::<[u8], _>(up_to(key)).next_back();
        leaf.expect("the first separator is the empty key").1
    }

    /// Records a put of `key`, attached to `lease`.
    pub(super) fn put(&mut self, key: &[u8], record: Record, lease: Option<Handle>) -> Put {
        let at = record.revision();
        let new = Lineage { created: at.main, version: 1 };
        let leaf = self.leaf_mut(key);
        match leaf.find(key) {
            Ok(position) => {
                let put = leaf.change(position, |slot| {
                    let superseded = slot.newest;
                    let Lineage { created, version } = slot.lineage;
                    let lineage = match slot.is_live() {
                        true => Lineage { created, version: version + 1 },
                        false => new,
                    };
                    let detached = slot.lease;
                    slot.append(record, lineage, lease);
                    Put { lineage, superseded: Some(superseded), detached }
                });
                let revived = put.superseded.is_some_and(|record| record.is_tombstone());
                self.live += u64::from(revived);
                put
            }
            Err(position) => {
                self.insert(key, position, Slot::new(record, new, lease));
                Put { lineage: new, superseded: None, detached: None }
            }
        }
    }

    /// Records the deletion of `key`; the record that was live and its lease, or `None` and nothing
    /// changes.
    pub(super) fn delete(&mut self, key: &[u8], at: Revision) -> Option<(Record, Option<Handle>)> {
        let leaf = self.leaf_mut(key);
        let position = leaf.find(key).ok()?;
        if !leaf.slot(position).is_live() {
            return None;
        }
        let superseded = leaf.change(position, |slot| {
            let superseded = (slot.newest, slot.lease);
            slot.append(Record::tombstone(at), Lineage::default(), None);
            superseded
        });
        self.live -= 1;
        Some(superseded)
    }

    /// Adds a record that was found in the engine. Records of a key arrive in order. Returns the
    /// lease of the one before it.
    pub(super) fn restore(
        &mut self,
        key: &[u8],
        record: Record,
        lineage: Lineage,
        lease: Option<Handle>,
    ) -> Option<Handle> {
        let leaf = self.leaf_mut(key);
        match leaf.find(key) {
            Ok(position) => {
                let before = leaf.slot(position);
                let (was_live, detached) = (before.is_live(), before.lease);
                leaf.change(position, |slot| slot.append(record, lineage, lease));
                self.live += u64::from(!record.is_tombstone());
                self.live -= u64::from(was_live);
                detached
            }
            Err(position) => {
                self.insert(key, position, Slot::new(record, lineage, lease));
                None
            }
        }
    }

    fn insert(&mut self, key: &[u8], position: usize, slot: Slot) {
        self.live += u64::from(slot.is_live());
        let leaf = self.leaf_mut(key);
        if leaf.len() < LEAF_SLOTS_MAX {
            return leaf.insert(position, key, slot);
        }
        if position == leaf.len() {
            // Keys arriving in order leave full leaves behind.
            let last = leaf.key(position - 1).to_vec();
            let mut right = Leaf::default();
            right.insert(0, key, slot);
            self.leaves.insert(separator(&last, key), right);
            return;
        }
        let middle = LEAF_SLOTS_MAX / 2;
        let mut right = leaf.split_off(middle);
        let first = right.key(0).to_vec();
        match position.checked_sub(middle + 1) {
            Some(position) => right.insert(position + 1, key, slot),
            None => leaf.insert(position, key, slot),
        }
        let last = leaf.key(leaf.len() - 1).to_vec();
        self.leaves.insert(separator(&last, &first), right);
    }

    /// Visits the slots of `[from, end)` in key order; without `end`, all from `from` on.
    /// Returns the key at which the visitor ended the walk: the place to go on from.
    pub(super) fn walk<'a>(
        &'a self,
        from: &[u8],
        end: Option<&[u8]>,
        visitor: &mut impl Visit<'a>,
    ) -> Option<Vec<u8>> {
        if end.is_some_and(|end| end <= from) {
            return None;
        }
        let before = |key: KeyParts<'_>| end.is_none_or(|end| key.cmp(end).is_lt());
        let first = self.leaves.range::<[u8], _>(up_to(from)).next_back();
        let first = first.map_or(&[][..], |(separator, _)| &**separator);
        for (_, leaf) in self.leaves.range::<[u8], _>((Bound::Included(first), Bound::Unbounded)) {
            let start = leaf.find(from).unwrap_or_else(|position| position);
            if start == leaf.len() {
                continue;
            }
            if start == 0 && before(leaf.key(leaf.len() - 1)) {
                match visitor.leaf(leaf) {
                    Leafwise::Enter => {}
                    Leafwise::Skip => continue,
                    Leafwise::Stop => return Some(leaf.key(0).to_vec()),
                }
            }
            for position in start..leaf.len() {
                let key = leaf.key(position);
                if !before(key) {
                    return None;
                }
                if visitor.slot(key, leaf.slot(position)).is_break() {
                    return Some(key.to_vec());
                }
            }
        }
        None
    }

    /// Trims keys from `from` on as a compaction at `main` does, `budget` records and leaves at
    /// once. Returns where to go on, or `None` at the end.
    pub(super) fn trim(
        &mut self,
        from: &[u8],
        main: i64,
        mut budget: usize,
        mut dropped: impl FnMut(usize, Record),
    ) -> Option<Vec<u8>> {
        let first = self.leaves.range::<[u8], _>(up_to(from)).next_back();
        let mut at: Box<[u8]> = first.map_or(Box::default(), |(separator, _)| separator.clone());
        loop {
            let leaf = self.leaves.get_mut(&at).expect("only this walk removes leaves");
            let mut position = leaf.find(from).unwrap_or_else(|position| position);
            while leaf.with_history() > 0 && position < leaf.len() {
                let key_bytes = leaf.key(position).len();
                let drop = |record| dropped(key_bytes, record);
                match leaf.change(position, |slot| slot.trim(main, &mut budget, drop)) {
                    Trimmed::Done => position += 1,
                    Trimmed::Emptied => leaf.remove(position),
                    Trimmed::Unfinished => return Some(leaf.key(position).to_vec()),
                }
            }
            budget = budget.saturating_sub(1);
            let next = self.tidy(&at)?;
            if budget == 0 {
                return Some(next.into_vec());
            }
            at = next;
        }
    }

    /// Removes an empty leaf, joins a short one with the next; where to go on after it.
    fn tidy(&mut self, at: &[u8]) -> Option<Box<[u8]>> {
        let length = self.leaves.get(at).map_or(0, Leaf::len);
        let after = (Bound::Excluded(at), Bound::Unbounded);
        let next = self.leaves.range::<[u8], _>(after).next();
        let next = next.map(|(separator, right)| (separator.clone(), right.len()));
        if length == 0 && !at.is_empty() {
            self.leaves.remove(at);
            return next.map(|(separator, _)| separator);
        }
        let (next, right) = next?;
        if length < LEAF_SLOTS_MIN && length + right <= LEAF_SLOTS_MAX - LEAF_SLOTS_MIN {
            let right = self.leaves.remove(&next).expect("just seen");
            self.leaves.get_mut(at).expect("just seen").merge(right);
            // The joined keys have not been trimmed yet.
            return Some(at.into());
        }
        Some(next)
    }

    /// Bytes the index holds on the heap, without the allocator's own.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        // A node of the map is about two thirds full.
        let entry = (size_of::<Box<[u8]>>() + size_of::<Leaf>()) * 3 / 2;
        let bytes = self.leaves.iter().map(|(key, leaf)| key.len() + leaf.heap_bytes() + entry);
        bytes.sum()
    }
}

fn up_to(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}

/// The shortest key above `left` and not above `right`.
fn separator(left: &[u8], right: &[u8]) -> Box<[u8]> {
    debug_assert!(left < right);
    right[..=shared_prefix(left, right)].into()
}
