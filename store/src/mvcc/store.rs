//! The store: what is shared by the apply thread, readers, and the thread that keeps house.

use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use proto::{EncodedKeyValue, internal};

use super::apply::Cursor;
use super::auth;
use super::cache::Cache;
use super::checkpoint::Checkpointing;
use super::compact::Compacting;
use super::generations::{Lineage, Record};
use super::meta::Member;
use super::pins::{Pin, Pins};
use super::rows;
use super::state::State;
use crate::engine::{Engine, EngineStats, Reader};
use crate::{Fatal, LogId, Revision};

#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Operations in a transaction. Only `check::txn` looks at it; kept here with the other bounds.
    pub max_txn_ops: usize,
    /// RAM for rows that no checkpoint has moved into the engine. Reaching it makes one due.
    pub recent_bytes_max: usize,
    /// RAM for rows read from the engine.
    pub cache_bytes: usize,
    /// What the engine rewrites before it has to give the memory for it back, during which readers
    /// wait. It needs more than twice that; the bound grows with the engine.
    pub rewrite_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            max_txn_ops: 128,
            recent_bytes_max: 16 << 20,
            cache_bytes: 16 << 20,
            rewrite_bytes: 8 << 20,
        }
    }
}

/// The state machine's data. One thread applies; any number read; one keeps house.
///
/// Locks are taken in the order of the fields.
pub struct Store {
    pub(super) options: StoreOptions,
    pub(super) checkpointing: Mutex<Checkpointing>,
    /// Held while a command is applied, so that a checkpoint sees none half done.
    pub(super) cursor: Mutex<Cursor>,
    pub(super) compacting: Mutex<Option<Compacting>>,
    pub(super) state: RwLock<State>,
    pub(super) auth: auth::Cell,
    pub(super) cache: Mutex<Cache>,
    pub(super) pins: Arc<Pins>,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) reader: Box<dyn Reader>,
}

/// What a bounded piece of work came to.
#[derive(Debug)]
pub enum Step<T> {
    /// There is more to do.
    More,
    Done(T),
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Keys, values and a constant for each live key.
    pub live_bytes: u64,
    /// The same for old versions and tombstones that no compaction has removed.
    pub history_bytes: u64,
    /// Live keys.
    pub keys: u64,
    /// RAM of rows that are not in the engine, those a checkpoint is just writing included.
    pub recent_bytes: u64,
    /// RAM of rows cached.
    pub cache_bytes: u64,
    /// Reads of rows that were cached, and of rows that came from the engine, since the start.
    pub cache_hits: u64,
    pub cache_misses: u64,
}

impl Store {
    /// The last log entry applied.
    pub fn applied(&self) -> LogId {
        self.state().applied
    }

    /// The newest membership applied, and the entry that held it.
    pub fn membership(&self) -> Option<(LogId, internal::Membership)> {
        self.state().membership.clone()
    }

    pub fn members(&self) -> Vec<Member> {
        self.state().members.clone()
    }

    /// The revision of the last change; 1 before the first.
    pub fn revision(&self) -> i64 {
        self.state().revision
    }

    /// The revision below which nothing can be read; -1 before the first compaction.
    pub fn compacted(&self) -> i64 {
        self.state().compacted
    }

    pub fn sizes(&self) -> Sizes {
        let state = self.state();
        let frozen = state.frozen.as_ref().map_or(0, |frozen| frozen.rows.bytes());
        let cache = self.cache();
        let (cache_hits, cache_misses) = cache.hits_and_misses();
        Sizes {
            live_bytes: state.live_bytes,
            history_bytes: state.history_bytes,
            keys: state.index.live(),
            recent_bytes: (state.recent_bytes() + frozen) as u64,
            cache_bytes: cache.bytes() as u64,
            cache_hits,
            cache_misses,
        }
    }

    /// Of the engine. Looks at its files.
    pub fn engine_stats(&self) -> EngineStats {
        self.engine.stats()
    }

    /// What a quota counts: live keys, history, and leases, which nothing else would bound.
    pub fn used_bytes(&self) -> u64 {
        let state = self.state();
        state.live_bytes + state.history_bytes + state.leases.used_bytes()
    }

    /// The row written at `at`; `None` when a compaction has removed it, or there never was one.
    pub fn row(&self, at: Revision) -> Result<Option<EncodedKeyValue>, Fatal> {
        {
            let state = self.state();
            if let Some(row) = state.row(at) {
                return Ok(Some(row.kv.clone()));
            }
            if at.main > state.engine_revision {
                return Ok(None);
            }
        }
        if let Some(row) = self.cache().get(at) {
            return Ok(Some(row));
        }
        let read = rows::read_row(&*self.reader, at)?;
        if read.is_none() && at.main > self.compacted() {
            return Err(missing(at));
        }
        Ok(read.map(|(_, row)| row))
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("no code panics while it holds this lock")
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("no code panics while it holds this lock")
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().expect("no code panics while it holds this lock")
    }

    pub(super) fn pin(&self, revision: i64) -> Pin {
        self.pins.pin(revision)
    }

    /// Reads the row of a live record from the engine. The index spares the key row when it knows
    /// what that holds.
    pub(super) fn fetch(
        &self,
        record: Record,
        key: &[u8],
        lineage: Option<Lineage>,
    ) -> Result<EncodedKeyValue, Fatal> {
        let at = record.revision();
        if let Some(row) = self.cache().get(at) {
            return Ok(row);
        }
        let row = match lineage {
            Some(lineage) if !record.is_leased() => {
                let value = rows::read_value(&*self.reader, at, record.value_bytes())?;
                value.map(|value| rows::encode(key, lineage, record.main, &value, 0))
            }
            _ => rows::read_row(&*self.reader, at)?.map(|(_, row)| row),
        };
        let row = row.ok_or_else(|| missing(at))?;
        self.cache().insert(at, row.clone());
        Ok(row)
    }

    /// The same without the value, which is not read.
    pub(super) fn fetch_head(
        &self,
        record: Record,
        key: &[u8],
        lineage: Option<Lineage>,
    ) -> Result<EncodedKeyValue, Fatal> {
        let at = record.revision();
        match lineage {
            Some(lineage) if !record.is_leased() => {
                Ok(rows::encode(key, lineage, record.main, b"", 0))
            }
            _ => {
                let row = rows::read_key_row(&*self.reader, at)?.ok_or_else(|| missing(at))?;
                Ok(row.encode(record.main, b""))
            }
        }
    }

    /// The live version of a key at the current revision, for the apply thread.
    pub(super) fn current(&self, key: &[u8]) -> Result<Option<EncodedKeyValue>, Fatal> {
        let (record, lineage) = {
            let state = self.state();
            let Some(slot) = state.index.find(key).filter(|slot| slot.is_live()) else {
                return Ok(None);
            };
            if let Some(row) = state.row(slot.newest.revision()) {
                return Ok(Some(row.kv.clone()));
            }
            (slot.newest, slot.lineage)
        };
        self.fetch(record, key, Some(lineage)).map(Some)
    }
}

pub(super) fn missing(at: Revision) -> Fatal {
    Fatal::Engine(format!("the row of revision {at} is missing"))
}
