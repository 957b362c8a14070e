//! The engine in memory, for tests and simulation. It can answer what a crash would have left.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::{Engine, EngineStats, Reader, Visit, WriteBatch};
use crate::Fatal;

/// Rows copied out of the map per step of a scan, so that no visitor runs under the lock.
const SCAN_ROWS: usize = 256;

/// Cloning shares the contents.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    contents: Arc<RwLock<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    rows: BTreeMap<Bytes, Bytes>,
    /// What undoes each call since the last flush, oldest first.
    undo: Vec<Vec<(Bytes, Option<Bytes>)>>,
    dirty_bytes: u64,
}

impl MemoryEngine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls that a crash now may or may not keep.
    pub fn unflushed(&self) -> usize {
        self.read().undo.len()
    }

    /// An engine holding what a crash leaves when only `kept` of the [`Self::unflushed`] calls,
    /// the oldest, reached the disk.
    pub fn after_crash(&self, kept: usize) -> Self {
        let contents = self.read();
        let mut rows = contents.rows.clone();
        for call in contents.undo.iter().skip(kept).rev() {
            for (key, old) in call.iter().rev() {
                match old {
                    Some(value) => rows.insert(key.clone(), value.clone()),
                    None => rows.remove(key),
                };
            }
        }
        let contents = Contents { rows, ..Contents::default() };
        Self { contents: Arc::new(RwLock::new(contents)) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().expect("no code panics while it holds this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().expect("no code panics while it holds this lock")
    }
}

impl Engine for MemoryEngine {
    fn reader(&self) -> Box<dyn Reader> {
        Box::new(self.clone())
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), Fatal> {
        let mut contents = self.write();
        let mut undo = Vec::with_capacity(batch.puts.len());
        for (key, value) in batch.puts {
            contents.dirty_bytes += (key.len() + value.len()) as u64;
            let old = contents.rows.insert(key.clone(), value);
            undo.push((key, old));
        }
        contents.undo.push(undo);
        Ok(())
    }

    fn delete_many(&self, keys: &[Bytes]) -> Result<(), Fatal> {
        // Not atomic: a crash may keep some of the removals, so each is a call of its own.
        let mut contents = self.write();
        for key in keys {
            if let Some(old) = contents.rows.remove(key) {
                contents.dirty_bytes += key.len() as u64;
                contents.undo.push(vec![(key.clone(), Some(old))]);
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Fatal> {
        let mut contents = self.write();
        contents.undo.clear();
        contents.dirty_bytes = 0;
        Ok(())
    }

    fn maintain(&self) -> Result<(), Fatal> {
        self.flush()
    }

    fn stats(&self) -> EngineStats {
        EngineStats { physical_bytes: 0, dirty_bytes: self.read().dirty_bytes }
    }
}

impl Reader for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        Ok(self.read().rows.get(key).cloned())
    }

    fn scan(&self, range: (Bound<&[u8]>, Bound<&[u8]>), visit: Visit<'_>) -> Result<(), Fatal> {
        if super::is_empty_range(range) {
            return Ok(());
        }
        let mut from = range.0.map(Bytes::copy_from_slice);
        loop {
            let rows: Vec<(Bytes, Bytes)> = self
                .read()
                .rows
                .range::<[u8], _>((from.as_ref().map(|key| key.as_ref()), range.1))
                .take(SCAN_ROWS)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            for (key, value) in &rows {
                if visit(key, value).is_break() {
                    return Ok(());
                }
            }
            match rows.last() {
                Some((last, _)) if rows.len() == SCAN_ROWS => from = Bound::Excluded(last.clone()),
                _ => return Ok(()),
            }
            // The step may have ended on the last row of the range, and a map panics when asked
            // for a range whose two excluded ends are equal.
            if super::is_empty_range((from.as_ref().map(|key| key.as_ref()), range.1)) {
                return Ok(());
            }
        }
    }
}
