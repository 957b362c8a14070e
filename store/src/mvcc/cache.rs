//! A bounded cache of rows read from the engine. Rows never change, so nothing is invalidated.

use std::collections::BTreeMap;

use proto::EncodedKeyValue;

use crate::Revision;

/// What an entry costs beyond its row's bytes, roughly.
const ENTRY_BYTES: usize = 160;

/// Two generations: hits move a row into the young one; when that is half of the bound, the old
/// one is forgotten and the young one grows old.
#[derive(Debug)]
pub(super) struct Cache {
    bytes_max: usize,
    young: Rows,
    old: Rows,
    hits: u64,
    misses: u64,
}

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<Revision, EncodedKeyValue>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, young: Rows::default(), old: Rows::default(), hits: 0, misses: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    /// How often a row that was asked for was there, and was not.
    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    pub(super) fn get(&mut self, at: Revision) -> Option<EncodedKeyValue> {
        let row = self.find(at);
        match row {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        row
    }

    fn find(&mut self, at: Revision) -> Option<EncodedKeyValue> {
        if let Some(row) = self.young.rows.get(&at) {
            return Some(row.clone());
        }
        let row = self.old.rows.remove(&at)?;
        self.old.bytes -= bytes_of(&row);
        self.insert(at, row.clone());
        Some(row)
    }

    pub(super) fn insert(&mut self, at: Revision, row: EncodedKeyValue) {
        let bytes = bytes_of(&row);
        if bytes > self.bytes_max / 4 {
            return;
        }
        if self.young.bytes + bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        if let Some(replaced) = self.young.rows.insert(at, row) {
            self.young.bytes -= bytes_of(&replaced);
        }
        self.young.bytes += bytes;
    }
}

fn bytes_of(row: &EncodedKeyValue) -> usize {
    row.as_bytes().len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::generations::Lineage;
    use crate::mvcc::rows;

    #[test]
    fn stays_within_its_bound_and_keeps_what_is_used() {
        let mut cache = Cache::new(64 << 10);
        let row = rows::encode(b"key", Lineage::default(), 1, &[0; 500], 0);
        let hot = Revision::new(1, 0);
        cache.insert(hot, row.clone());
        for main in 2..2_000 {
            cache.insert(Revision::new(main, 0), row.clone());
            assert!(cache.get(hot).is_some());
            assert!(cache.bytes() <= 64 << 10);
        }
        assert_eq!(cache.hits_and_misses(), (1_998, 0));
        assert!(cache.get(Revision::new(2, 0)).is_none());
        assert_eq!(cache.hits_and_misses(), (1_998, 1));
    }
}
