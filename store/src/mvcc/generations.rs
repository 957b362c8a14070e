//! One key's place in history: its newest record inline, older ones boxed. Most keys have a
//! single record after a compaction and pay for nothing else.

use super::chunks::Chunks;
use super::leases::Handle;
use crate::Revision;

/// What a row counts beyond its key and value, in every size this module reports.
pub(super) const ROW_OVERHEAD: u64 = 24;

const TOMBSTONE: u32 = 1 << 31;
const LEASED: u32 = 1 << 30;
const SUB: u32 = LEASED - 1;

/// What the index knows of one row: where it is, what kind, how long its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) main: i64,
    /// Sub-revision and flags.
    place: u32,
    value_bytes: u32,
}

impl Record {
    /// Whether a row can be there: a transaction holds fewer than 2^30 changes.
    pub(super) fn can_be_at(at: Revision) -> bool {
        (0..i64::MAX).contains(&at.main) && (0..=i64::from(SUB)).contains(&at.sub)
    }

    pub(super) fn put(at: Revision, value_bytes: usize, leased: bool) -> Self {
        let sub = u32::try_from(at.sub).expect("a transaction holds fewer than 2^30 changes");
        assert!(sub <= SUB, "a transaction holds fewer than 2^30 changes");
        let value_bytes = u32::try_from(value_bytes).expect("a value is shorter than 4 GiB");
        let place = if leased { sub | LEASED } else { sub };
        Self { main: at.main, place, value_bytes }
    }

    pub(super) fn tombstone(at: Revision) -> Self {
        let mut record = Self::put(at, 0, false);
        record.place |= TOMBSTONE;
        record
    }

    pub(super) fn revision(&self) -> Revision {
        Revision::new(self.main, i64::from(self.place & SUB))
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.place & TOMBSTONE != 0
    }

    pub(super) fn is_leased(&self) -> bool {
        self.place & LEASED != 0
    }

    pub(super) fn value_bytes(&self) -> usize {
        self.value_bytes as usize
    }

    /// What the row counts in sizes.
    pub(super) fn bytes(&self, key_bytes: usize) -> u64 {
        key_bytes as u64 + u64::from(self.value_bytes) + ROW_OVERHEAD
    }
}

/// Where the current generation of a key began and how often it was put since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lineage {
    pub(super) created: i64,
    pub(super) version: i64,
}

/// A key's records, oldest first: `older`, then `newest`. A put after a tombstone begins a new
/// generation; the records of all generations are one sequence.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) newest: Record,
    /// Of `newest`; zeros when that is a tombstone.
    pub(super) lineage: Lineage,
    older: Option<Box<Chunks<Record>>>,
    /// The lease the live version is attached to.
    pub(super) lease: Option<Handle>,
    /// End of this key's suffix in its leaf.
    pub(super) key_end: u32,
}

/// What a compaction did to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trimmed {
    Done,
    /// Nothing of the key is left.
    Emptied,
    /// The budget ran out.
    Unfinished,
}

impl Slot {
    pub(super) fn new(newest: Record, lineage: Lineage, lease: Option<Handle>) -> Self {
        Self { newest, lineage, older: None, lease, key_end: 0 }
    }

    pub(super) fn append(&mut self, record: Record, lineage: Lineage, lease: Option<Handle>) {
        debug_assert!(self.newest.revision() < record.revision());
        self.older.get_or_insert_default().push(self.newest);
        self.newest = record;
        self.lineage = lineage;
        self.lease = lease;
    }

    pub(super) fn is_live(&self) -> bool {
        !self.newest.is_tombstone()
    }

    /// Whether a compaction could ever find something here.
    pub(super) fn has_history(&self) -> bool {
        self.older.is_some() || self.newest.is_tombstone()
    }

    /// The newest record with a main revision of at most `main`, and its lineage if known here.
    pub(super) fn at(&self, main: i64) -> Option<(Record, Option<Lineage>)> {
        if self.newest.main <= main {
            return Some((self.newest, Some(self.lineage)));
        }
        let older = self.older.as_ref()?;
        let count = older.partition_point(|record| record.main <= main);
        older.get(count.checked_sub(1)?).map(|record| (*record, None))
    }

    pub(super) fn contains(&self, at: Revision) -> bool {
        self.record(at).is_some()
    }

    /// The record of exactly that revision.
    pub(super) fn record(&self, at: Revision) -> Option<Record> {
        if self.newest.revision() == at {
            return Some(self.newest);
        }
        let older = self.older.as_ref()?;
        let before = older.partition_point(|record| record.revision() < at);
        older.get(before).copied().filter(|record| record.revision() == at)
    }

    /// Drops what a compaction at `main` drops: all before the newest record at or below `main`,
    /// and that one too if it is a tombstone below `main`. At most `budget` records at once.
    pub(super) fn trim(
        &mut self,
        main: i64,
        budget: &mut usize,
        mut dropped: impl FnMut(Record),
    ) -> Trimmed {
        let dead = |record: &Record| record.is_tombstone() && record.main < main;
        if let Some(older) = &mut self.older {
            let mut goes = if self.newest.main <= main {
                older.len()
            } else {
                let at_or_below = older.partition_point(|record| record.main <= main);
                let last = at_or_below.checked_sub(1).and_then(|last| older.get(last));
                at_or_below - usize::from(last.is_some_and(|last| !dead(last)))
            };
            while goes > 0 {
                if *budget == 0 {
                    return Trimmed::Unfinished;
                }
                *budget -= 1;
                goes -= 1;
                dropped(older.pop_front().expect("counted above"));
            }
            if older.is_empty() {
                self.older = None;
            }
        }
        if self.older.is_none() && dead(&self.newest) {
            dropped(self.newest);
            return Trimmed::Emptied;
        }
        Trimmed::Done
    }

    /// Bytes this slot holds on the heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.older.as_ref().map_or(0, |older| {
            size_of::<Chunks<Record>>() + older.len().next_power_of_two() * size_of::<Record>()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(main: i64) -> Record {
        Record::put(Revision::new(main, 0), 10, false)
    }

    fn tombstone(main: i64) -> Record {
        Record::tombstone(Revision::new(main, 0))
    }

    fn slot(records: &[Record]) -> Slot {
        let mut slot = Slot::new(records[0], Lineage::default(), None);
        for record in &records[1..] {
            slot.append(*record, Lineage::default(), None);
        }
        slot
    }

    fn trim(records: &[Record], main: i64) -> (Trimmed, Vec<i64>) {
        let mut dropped = Vec::new();
        let trimmed = slot(records).trim(main, &mut 100, |record| dropped.push(record.main));
        (trimmed, dropped)
    }

    #[test]
    fn a_compaction_keeps_the_newest_live_record_and_a_tombstone_exactly_at_it() {
        let records = [put(2), put(4), tombstone(6), put(8), tombstone(10)];
        assert_eq!(trim(&records, 1), (Trimmed::Done, vec![]));
        assert_eq!(trim(&records, 3), (Trimmed::Done, vec![]));
        assert_eq!(trim(&records, 5), (Trimmed::Done, vec![2]));
        assert_eq!(trim(&records, 6), (Trimmed::Done, vec![2, 4]));
        assert_eq!(trim(&records, 7), (Trimmed::Done, vec![2, 4, 6]));
        assert_eq!(trim(&records, 9), (Trimmed::Done, vec![2, 4, 6]));
        assert_eq!(trim(&records, 10), (Trimmed::Done, vec![2, 4, 6, 8]));
        assert_eq!(trim(&records, 11), (Trimmed::Emptied, vec![2, 4, 6, 8, 10]));
    }

    #[test]
    fn the_newest_record_at_a_revision_is_found() {
        let slot = slot(&[put(2), put(4), tombstone(6)]);
        assert_eq!(slot.at(1), None);
        assert_eq!(slot.at(2).unwrap().0.main, 2);
        assert_eq!(slot.at(5).unwrap().0.main, 4);
        assert!(slot.at(9).unwrap().0.is_tombstone());
        assert!(slot.contains(Revision::new(4, 0)));
        assert!(!slot.contains(Revision::new(4, 1)));
        assert!(!slot.contains(Revision::new(5, 0)));
    }
}
