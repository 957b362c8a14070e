//! Walking rows in order of revision, in bounded steps: from the engine, then from RAM. A
//! checkpoint may move rows from one to the other between two steps.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use proto::EncodedKeyValue;
use proto::mvccpb::event::EventType;

use super::generations::Slot;
use super::rows::{self, KeyRow};
use super::state::State;
use super::store::{Store, missing};
use crate::engine::Reader;
use crate::{Fatal, Revision};

const STEP_ROWS: usize = 256;
const STEP_BYTES: usize = 1 << 20;

/// A row as etcd stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    pub at: Revision,
    pub tombstone: bool,
    pub kv: EncodedKeyValue,
}

/// Rows up to a revision that are not behind us yet, without those a compaction drops, whether it
/// has come to them yet or not.
#[derive(Debug)]
pub(super) struct Scan {
    next: Revision,
    upto: i64,
    compacted: i64,
}

/// Which of these rows a scan returns: asked with the key's slot, the row's revision, and whether
/// it is a tombstone.
pub(super) type Select<'a> = &'a dyn Fn(&Slot, Revision, bool) -> bool;

impl Scan {
    pub(super) fn new(upto: i64, compacted: i64) -> Self {
        Self { next: Revision::default(), upto, compacted }
    }

    /// The next rows, perhaps none; `None` at the end.
    pub(super) fn step(
        &mut self,
        store: &Store,
        select: Select<'_>,
    ) -> Result<Option<Vec<StoredRow>>, Fatal> {
        if self.next.main > self.upto {
            return Ok(None);
        }
        let bottom = {
            let state = store.state();
            let bottom = state.frozen.as_ref().map_or(state.engine_revision, |it| it.above);
            if self.next.main > bottom {
                return Ok(Some(self.step_ram(&state, select)));
            }
            bottom
        };
        self.step_engine(store, bottom.min(self.upto), select).map(Some)
    }

    fn step_ram(&mut self, state: &State, select: Select<'_>) -> Vec<StoredRow> {
        let frozen = state.frozen.as_ref().map(|frozen| &frozen.rows);
        let from_frozen = frozen.into_iter().flat_map(|rows| rows.from(self.next.main));
        let from_recent = state.recent.from(self.next.main.max(state.recent.first()));
        let mut rows = Vec::new();
        let (mut seen, mut bytes) = (0, 0);
        for events in from_frozen.chain(from_recent) {
            if events.main > self.upto {
                break;
            }
            if seen >= STEP_ROWS || bytes >= STEP_BYTES {
                self.next = Revision::new(events.main, 0);
                return rows;
            }
            for (sub, event) in events.events.iter().enumerate() {
                seen += 1;
                let at = Revision::new(events.main, sub as i64);
                let tombstone = event.kind == EventType::Delete;
                if self.wants(state, &event.key, at, tombstone, select) {
                    bytes += event.kv.as_bytes().len();
                    let kv = match tombstone {
                        true => rows::tombstone_row(&event.kv),
                        false => event.kv.clone(),
                    };
                    rows.push(StoredRow { at, tombstone, kv });
                }
            }
        }
        self.next = Revision::new(self.upto + 1, 0);
        rows
    }

    fn step_engine(
        &mut self,
        store: &Store,
        upto: i64,
        select: Select<'_>,
    ) -> Result<Vec<StoredRow>, Fatal> {
        let (mut found, next) = key_rows(&*store.reader, self.next, upto)?;
        self.next = next;
        {
            let state = store.state();
            found.retain(|(at, row)| self.wants(&state, &row.key, *at, row.tombstone, select));
        }
        let values = values(&*store.reader, &found)?;
        let row = |((at, row), value): ((Revision, KeyRow), Vec<u8>)| StoredRow {
            at,
            tombstone: row.tombstone,
            kv: row.encode(at.main, &value),
        };
        Ok(found.into_iter().zip(values).map(row).collect())
    }

    fn wants(
        &self,
        state: &State,
        key: &[u8],
        at: Revision,
        tombstone: bool,
        select: Select<'_>,
    ) -> bool {
        let survives = |slot: &Slot| match at.main <= self.compacted {
            true if tombstone && at.main < self.compacted => false,
            true => slot.at(self.compacted).is_some_and(|(record, _)| record.revision() == at),
            false => slot.contains(at),
        };
        let slot = state.index.find(key);
        slot.is_some_and(|slot| survives(slot) && select(slot, at, tombstone))
    }
}

/// The key rows of the engine from `from` up to main revision `upto`, a bounded number of them,
/// and where to go on.
pub(super) fn key_rows(
    reader: &dyn Reader,
    from: Revision,
    upto: i64,
) -> Result<(Vec<(Revision, KeyRow)>, Revision), Fatal> {
    let (start, end) = (rows::key_row(from), rows::key_row(Revision::new(upto + 1, 0)));
    let (mut found, mut failed, mut bytes) = (Vec::new(), None, 0);
    let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    reader.scan(range, &mut |key, row| match rows::scanned_key_row(key, row) {
        Ok((at, row)) => {
            bytes += row.value_bytes;
            found.push((at, row));
            match found.len() < STEP_ROWS && bytes < STEP_BYTES {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        }
        Err(fatal) => {
            failed = Some(fatal);
            ControlFlow::Break(())
        }
    })?;
    if let Some(fatal) = failed {
        return Err(fatal);
    }
    let next = match found.last() {
        Some((last, _)) if found.len() >= STEP_ROWS || bytes >= STEP_BYTES => {
            Revision::new(last.main, last.sub + 1)
        }
        _ => Revision::new(upto + 1, 0),
    };
    Ok((found, next))
}

/// The values that belong to key rows in ascending order, read in one pass.
pub(super) fn values(
    reader: &dyn Reader,
    rows: &[(Revision, KeyRow)],
) -> Result<Vec<Vec<u8>>, Fatal> {
    let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else {
        return Ok(Vec::new());
    };
    let mut values = vec![Vec::new(); rows.len()];
    let (mut position, mut failed) = (0, None);
    let start = Bytes::from(rows::row_key(rows::VALUE_ROWS, *first));
    let end = Bytes::from(rows::row_key(rows::VALUE_ROWS, Revision::new(last.main, last.sub + 1)));
    let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    let mut take = |key: &[u8], row: &[u8]| -> Result<(), Fatal> {
        let at = rows::revision_of(key)?;
        while rows.get(position).is_some_and(|(row, _)| *row < at) {
            position += 1;
        }
        if rows.get(position).is_some_and(|(row, _)| *row == at) {
            values[position].extend_from_slice(rows::unseal(key, row)?);
        }
        Ok(())
    };
    reader.scan(range, &mut |key, row| match take(key, row) {
        Ok(()) => ControlFlow::Continue(()),
        Err(fatal) => {
            failed = Some(fatal);
            ControlFlow::Break(())
        }
    })?;
    if let Some(fatal) = failed {
        return Err(fatal);
    }
    match rows.iter().zip(&values).find(|((_, row), value)| value.len() != row.value_bytes) {
        Some(((at, _), _)) => Err(missing(*at)),
        None => Ok(values),
    }
}
