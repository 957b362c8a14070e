//! Rows that compactions dropped and the engine still holds.
//!
//! Removing rows rewrites their neighbours, and the engine keeps what it has rewritten in memory
//! until it is maintained. So rows are removed in portions, in order of revision, which is the
//! order they lie in; the backlog knows how much lies where, and so how much a portion rewrites.
//! What one checkpoint leaves the next goes on with, from the place the last one came to: rows
//! wait no longer than one round, and the longer the round, the more of them lie together.
//!
//! # The list
//! A key may be forgotten altogether while old versions of it are still in the engine, and its
//! tombstone never was: after a restart it would be alive again. So the revisions of all rows of
//! the backlog are written beside the meta row, and an open leaves such rows out. Revisions never
//! come back, so it does no harm when the list names rows that are gone already.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};

use super::generations::Record;
use super::rows;
use crate::engine::{Reader, WriteBatch};
use crate::{Fatal, Revision};

/// Revisions whose rows are counted together: those of about one leaf of the engine.
const BUCKET_REVISIONS: i64 = 64;
/// What a row occupies beyond its value, roughly.
const ROW_BYTES: u64 = 128;
/// What is rewritten beside a row, at most: a leaf at either end of it.
const NEIGHBOURS_BYTES: u64 = 2 * 64 * rows::VALUE_ROW_BYTES as u64;
/// Portions grow with the engine, because the cost of giving memory back does.
const PORTIONS_OF_ENGINE: u64 = 64;
const PORTION_FACTOR_MAX: u64 = 4;
/// A row of the list stays as small as other rows.
const LIST_ROW_BYTES: usize = rows::VALUE_ROW_BYTES;
const REVISION_BYTES_MAX: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// In order of revision.
    records: Vec<Record>,
    /// The next portion begins here.
    next: Revision,
    /// Bytes of the rows in the engine, by revision; the backlog's rows included.
    held: BTreeMap<i64, u64>,
    held_bytes: u64,
    /// Rows of the list in the engine.
    list_rows: u32,
}

/// Rows to remove at a time.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) records: Vec<Record>,
    /// What removing them rewrites, roughly.
    pub(super) bytes: u64,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes note of a row that the engine holds.
    pub(super) fn hold(&mut self, record: Record) {
        *self.held.entry(bucket(record)).or_default() += bytes_of(record);
        self.held_bytes += bytes_of(record);
    }

    /// Adds rows that are to be removed.
    pub(super) fn extend(&mut self, records: impl IntoIterator<Item = Record>) {
        self.records.extend(records);
        self.records.sort_unstable_by_key(Record::revision);
    }

    /// How much may be rewritten before memory has to be given back.
    pub(super) fn portion_bytes(&self, least: u64) -> u64 {
        (self.held_bytes / PORTIONS_OF_ENGINE).clamp(least, least * PORTION_FACTOR_MAX)
    }

    /// Takes out the next rows to remove: those that rewrite `bytes_max`, but at least one.
    pub(super) fn portion(&mut self, bytes_max: u64) -> Portion {
        let start = match self.records.partition_point(|record| record.revision() < self.next) {
            past if past == self.records.len() => 0,
            start => start,
        };
        let (mut end, mut bytes) = (start, 0);
        while let Some(first) = self.records.get(end).filter(|_| bytes < bytes_max) {
            let here = bucket(*first);
            let together = self.records[end..].iter().take_while(|record| bucket(**record) == here);
            let (mut count, mut apart) = (0, 0);
            for record in together {
                count += 1;
                apart += bytes_of(*record) + NEIGHBOURS_BYTES;
            }
            bytes += self.held.get(&here).map_or(0, |held| apart.min(*held));
            end += count;
        }
        self.next = self.records.get(end).map_or(Revision::default(), Record::revision);
        let records: Vec<Record> = self.records.drain(start..end).collect();
        for record in &records {
            self.release(*record);
        }
        Portion { records, bytes }
    }

    fn release(&mut self, record: Record) {
        let key = bucket(record);
        let Some(held) = self.held.get_mut(&key) else { return };
        *held = held.saturating_sub(bytes_of(record));
        if *held == 0 {
            self.held.remove(&key);
        }
        self.held_bytes = self.held_bytes.saturating_sub(bytes_of(record));
    }

    /// Writes the list, to become durable together with the meta row.
    pub(super) fn put_list(&mut self, batch: &mut WriteBatch) {
        let (mut body, mut before, mut number) = (Vec::new(), 0, 0);
        for record in &self.records {
            let at = record.revision();
            encode_varint((at.main - before) as u64, &mut body);
            encode_varint(at.sub as u64, &mut body);
            before = at.main;
            if body.len() + REVISION_BYTES_MAX > LIST_ROW_BYTES {
                put_list_row(batch, number, std::mem::take(&mut body));
                (before, number) = (0, number + 1);
            }
        }
        if !body.is_empty() {
            put_list_row(batch, number, body);
            number += 1;
        }
        self.list_rows = self.list_rows.max(number);
    }

    /// The rows of the list, which is not needed any more once the rows it names are removed. The
    /// last first, so that those a crash leaves are still counted rightly.
    pub(super) fn take_list(&mut self) -> Vec<Bytes> {
        (0..std::mem::take(&mut self.list_rows)).rev().map(list_row).collect()
    }

    /// Reads the list; its revisions are in order.
    pub(super) fn read_list(&mut self, reader: &dyn Reader) -> Result<Vec<Revision>, Fatal> {
        let mut listed = Vec::new();
        let mut failed = None;
        let (start, end) = ([rows::LIST_ROWS], [rows::LIST_ROWS + 1]);
        let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
        reader.scan(range, &mut |key, row| match read_list_row(key, row, &mut listed) {
            Ok(()) => {
                self.list_rows += 1;
                ControlFlow::Continue(())
            }
            Err(fatal) => {
                failed = Some(fatal);
                ControlFlow::Break(())
            }
        })?;
        // Rows at the end may be left from a longer list.
        listed.sort_unstable();
        failed.map_or(Ok(listed), Err)
    }
}

fn bucket(record: Record) -> i64 {
    record.main / BUCKET_REVISIONS
}

fn bytes_of(record: Record) -> u64 {
    record.value_bytes() as u64 + ROW_BYTES
}

fn list_row(number: u32) -> Bytes {
    [&[rows::LIST_ROWS][..], &number.to_be_bytes()].concat().into()
}

fn put_list_row(batch: &mut WriteBatch, number: u32, body: Vec<u8>) {
    let row_key = list_row(number);
    batch.put(row_key.clone(), rows::seal(&row_key, body));
}

fn read_list_row(row_key: &[u8], row: &[u8], listed: &mut Vec<Revision>) -> Result<(), Fatal> {
    let malformed = |_| Fatal::Engine("the list of dropped rows is malformed".into());
    let mut body = rows::unseal(row_key, row)?;
    let mut main = 0;
    while !body.is_empty() {
        main += decode_varint(&mut body).map_err(malformed)? as i64;
        let sub = decode_varint(&mut body).map_err(malformed)? as i64;
        listed.push(Revision::new(main, sub));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, MemoryEngine};

    /// One row.
    const VALUE: usize = 900;

    fn backlog(dropped: &[i64]) -> Backlog {
        let record = |main| Record::put(Revision::new(main, 0), VALUE, false);
        let mut backlog = Backlog::default();
        (1..=6400).for_each(|main| backlog.hold(record(main)));
        backlog.extend(dropped.iter().rev().map(|main| record(*main)));
        backlog
    }

    fn mains(portion: &Portion) -> Vec<i64> {
        portion.records.iter().map(|record| record.main).collect()
    }

    #[test]
    fn rows_that_lie_together_go_together_and_all_take_their_turn() {
        let mut backlog = backlog(&[1, 2, 3, 700, 701, 3000, 6000]);
        let leaf = BUCKET_REVISIONS as u64 * (VALUE as u64 + ROW_BYTES);
        let portion = backlog.portion(leaf / 2);
        assert_eq!(mains(&portion), [1, 2, 3]);
        assert!(portion.bytes > leaf * 9 / 10 && portion.bytes <= leaf);
        assert_eq!(mains(&backlog.portion(leaf * 3 / 2)), [700, 701, 3000]);
        // Those that came meanwhile wait for the next round.
        backlog.extend([Record::tombstone(Revision::new(5, 0))]);
        assert_eq!(mains(&backlog.portion(1)), [6000]);
        assert_eq!(mains(&backlog.portion(1)), [5]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_is_held_adds_up() {
        let all: Vec<i64> = (1..=6400).collect();
        let mut backlog = backlog(&all);
        let mut portions = 0;
        while !backlog.is_empty() {
            let portion = backlog.portion(1 << 18);
            assert!(portion.bytes < 2 << 18);
            portions += 1;
        }
        assert!((20..30).contains(&portions));
        assert!(backlog.held.is_empty() && backlog.held_bytes == 0);
    }

    #[test]
    fn the_list_is_read_back_and_damage_to_it_noticed() {
        let engine = MemoryEngine::new();
        let all: Vec<i64> = (1..=6400).map(|main| main * 3).collect();
        let mut written = backlog(&all);
        let mut batch = WriteBatch::default();
        written.put_list(&mut batch);
        assert!(batch.puts.len() > 1);
        assert!(batch.puts.iter().all(|(_, row)| row.len() <= LIST_ROW_BYTES + 4));
        let (first, row) = batch.puts[0].clone();
        engine.apply(batch).unwrap();
        let mut read = Backlog::default();
        let listed = read.read_list(&*engine.reader()).unwrap();
        assert_eq!(listed.iter().map(|at| at.main).collect::<Vec<_>>(), all);
        engine.delete_many(&read.take_list()).unwrap();
        assert!(Backlog::default().read_list(&*engine.reader()).unwrap().is_empty());

        let mut damaged = row.to_vec();
        damaged[0] ^= 1;
        let mut batch = WriteBatch::default();
        batch.put(first, damaged);
        engine.apply(batch).unwrap();
        assert!(Backlog::default().read_list(&*engine.reader()).is_err());
    }
}
