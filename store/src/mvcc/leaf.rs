//! A leaf of the index: some neighbouring keys and their slots, with the sums over them.
//!
//! The keys share a prefix that is stored once; what follows it stands in one buffer. A key costs
//! its suffix and a slot, no allocation of its own.

use std::cmp::Ordering;

use super::generations::Slot;

pub(super) const LEAF_SLOTS_MAX: usize = 128;

/// A key of the index, in its two parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyParts<'a> {
    prefix: &'a [u8],
    suffix: &'a [u8],
}

impl KeyParts<'_> {
    pub(super) fn len(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    pub(super) fn to_vec(self) -> Vec<u8> {
        [self.prefix, self.suffix].concat()
    }

    pub(super) fn cmp(&self, key: &[u8]) -> Ordering {
        let shared = self.prefix.len().min(key.len());
        self.prefix.cmp(&key[..shared]).then_with(|| self.suffix.cmp(&key[shared..]))
    }
}

#[derive(Debug, Default)]
pub(super) struct Leaf {
    prefix: Box<[u8]>,
    suffixes: Vec<u8>,
    slots: Vec<Slot>,
    /// Slots whose newest record is live.
    live: u32,
    /// Slots a compaction could trim.
    with_history: u32,
    /// No record in here has a higher main revision.
    newest: i64,
}

impl Leaf {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    pub(super) fn with_history(&self) -> u32 {
        self.with_history
    }

    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    pub(super) fn slot(&self, position: usize) -> &Slot {
        &self.slots[position]
    }

    pub(super) fn key(&self, position: usize) -> KeyParts<'_> {
        KeyParts { prefix: &self.prefix, suffix: self.suffix(position) }
    }

    fn suffix_start(&self, position: usize) -> usize {
        match position.checked_sub(1) {
            Some(before) => self.slots[before].key_end as usize,
            None => 0,
        }
    }

    fn suffix(&self, position: usize) -> &[u8] {
        &self.suffixes[self.suffix_start(position)..self.slots[position].key_end as usize]
    }

    /// The position of `key`, or where it belongs.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(suffix) = key.strip_prefix(&*self.prefix) else {
            return Err(if *key < *self.prefix { 0 } else { self.slots.len() });
        };
        let (mut low, mut high) = (0, self.slots.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.suffix(middle).cmp(suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Inserts a new key where `find` said it belongs.
    pub(super) fn insert(&mut self, position: usize, key: &[u8], mut slot: Slot) {
        if self.slots.is_empty() {
            self.prefix = key.into();
            self.suffixes = Vec::new();
        } else if !key.starts_with(&self.prefix) {
            self.shorten_prefix(shared_prefix(&self.prefix, key));
        }
        let suffix = &key[self.prefix.len()..];
        let start = self.suffix_start(position);
        if self.suffixes.capacity() - self.suffixes.len() < suffix.len() {
            self.suffixes.reserve_exact(suffix.len() * 16);
        }
        self.suffixes.splice(start..start, suffix.iter().copied());
        slot.key_end = end_of(start);
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(16);
        }
        self.slots.insert(position, slot);
        for slot in &mut self.slots[position..] {
            slot.key_end = end_of(slot.key_end as usize + suffix.len());
        }
        self.count_in(position);
    }

    /// Changes a slot and keeps the sums.
    pub(super) fn change<T>(&mut self, position: usize, change: impl FnOnce(&mut Slot) -> T) -> T {
        self.count_out(position);
        let result = change(&mut self.slots[position]);
        self.count_in(position);
        result
    }

    pub(super) fn remove(&mut self, position: usize) {
        self.count_out(position);
        let (start, length) = (self.suffix_start(position), self.suffix(position).len());
        self.suffixes.drain(start..start + length);
        self.slots.remove(position);
        for slot in &mut self.slots[position..] {
            slot.key_end = end_of(slot.key_end as usize - length);
        }
    }

    /// Moves the slots from `position` on into a leaf of their own.
    pub(super) fn split_off(&mut self, position: usize) -> Self {
        let mut right = Self { newest: self.newest, ..Self::default() };
        let keys: Vec<Vec<u8>> = (position..self.len()).map(|at| self.key(at).to_vec()).collect();
        self.suffixes.truncate(self.suffix_start(position));
        let slots = self.slots.split_off(position);
        right.take_all(keys, slots);
        self.slots.shrink_to_fit();
        self.lengthen_prefix();
        (self.live, self.with_history) = (0, 0);
        (0..self.len()).for_each(|at| self.count_in(at));
        right
    }

    /// Takes over all of the next leaf.
    pub(super) fn merge(&mut self, right: Self) {
        let keys: Vec<Vec<u8>> = (0..right.len()).map(|at| right.key(at).to_vec()).collect();
        self.newest = self.newest.max(right.newest);
        self.take_all(keys, right.slots);
    }

    /// Appends slots whose keys follow all keys in here.
    fn take_all(&mut self, keys: Vec<Vec<u8>>, slots: Vec<Slot>) {
        if self.slots.is_empty()
            && let (Some(first), Some(last)) = (keys.first(), keys.last())
        {
            self.prefix = first[..shared_prefix(first, last)].into();
        } else if let Some(last) = keys.last() {
            self.shorten_prefix(shared_prefix(&self.prefix, last));
        }
        let skip = self.prefix.len();
        self.suffixes.reserve_exact(keys.iter().map(|key| key.len() - skip).sum());
        self.slots.reserve_exact(slots.len());
        for (key, mut slot) in keys.iter().zip(slots) {
            self.suffixes.extend_from_slice(&key[skip..]);
            slot.key_end = end_of(self.suffixes.len());
            self.slots.push(slot);
            self.count_in(self.slots.len() - 1);
        }
    }

    fn shorten_prefix(&mut self, length: usize) {
        if length < self.prefix.len() {
            self.rewrite(self.prefix[..length].into());
        }
    }

    fn lengthen_prefix(&mut self) {
        let Some(last) = self.slots.len().checked_sub(1) else { return };
        let (first, last) = (self.key(0).to_vec(), self.key(last).to_vec());
        self.rewrite(first[..shared_prefix(&first, &last)].into());
    }

    /// Stores all keys anew behind `prefix`, which they all start with.
    fn rewrite(&mut self, prefix: Box<[u8]>) {
        let mut suffixes = Vec::new();
        let mut ends = Vec::with_capacity(self.slots.len());
        for position in 0..self.slots.len() {
            let old = self.suffix(position);
            suffixes.extend_from_slice(self.prefix.get(prefix.len()..).unwrap_or_default());
            let skip = prefix.len().saturating_sub(self.prefix.len());
            suffixes.extend_from_slice(&old[skip..]);
            ends.push(end_of(suffixes.len()));
        }
        for (slot, end) in self.slots.iter_mut().zip(ends) {
            slot.key_end = end;
        }
        suffixes.shrink_to_fit();
        self.suffixes = suffixes;
        self.prefix = prefix;
    }

    fn count_in(&mut self, position: usize) {
        let slot = &self.slots[position];
        self.live += u32::from(slot.is_live());
        self.with_history += u32::from(slot.has_history());
        self.newest = self.newest.max(slot.newest.main);
    }

    fn count_out(&mut self, position: usize) {
        let slot = &self.slots[position];
        self.live -= u32::from(slot.is_live());
        self.with_history -= u32::from(slot.has_history());
    }

    /// Bytes this leaf holds on the heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.prefix.len()
            + self.suffixes.capacity()
            + self.slots.capacity() * size_of::<Slot>()
            + self.slots.iter().map(Slot::heap_bytes).sum::<usize>()
    }
}

pub(super) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn end_of(end: usize) -> u32 {
    u32::try_from(end).expect("the keys of one leaf fit into 4 GiB")
}
