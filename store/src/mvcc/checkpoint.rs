//! Checkpoints: what happened since the last one moves from RAM into the engine.
//!
//! 1. Freeze: the newest rows and the meta row of this moment are set aside; new rows collect anew.
//! 2. Rows that no compaction has dropped are written, then the meta row, then all is flushed.
//! 3. Rows that compactions dropped before the freeze are removed: only now, because until the
//!    meta row was durable a restart would have begun from an older state that needs them.
//!    Tombstones go last: without one, an older version of its key would come back to life.
//! 4. The frozen rows are let go and the engine gives memory back.
//!
//! Cut off anywhere, the engine holds the state of its meta row, and perhaps rows above its
//! revision (removed at the next open) and rows its compactions dropped (removed after it).
//! Commands are applied meanwhile and never wait; compactions do, because which rows are written
//! must agree with the meta row.

use std::sync::Arc;

use super::chunks::Chunks;
use super::generations::Record;
use super::meta::Meta;
use super::pins::Pin;
use super::recent::{ChangeEvent, Recent, RevisionEvents};
use super::rows;
use super::store::Store;
use crate::engine::WriteBatch;
use crate::{Fatal, LogId, Revision};
use proto::mvccpb::event::EventType;

/// Bytes written at once.
const BATCH_BYTES: usize = 1 << 20;
/// Revisions looked up under one lock.
const STEP_REVISIONS: usize = 256;
/// Rows removed at once.
const REMOVE_ROWS: usize = 1024;

/// What a checkpoint set aside. Readers still find the rows here.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) rows: Recent,
    /// The rows are above this revision.
    pub(super) above: i64,
    meta: Meta,
    dropped: Chunks<Record>,
    _pin: Pin,
}

impl Store {
    /// Whether RAM for rows outside the engine is used up.
    pub fn checkpoint_due(&self) -> bool {
        let state = self.state();
        state.frozen.is_none() && state.recent_bytes() >= self.options.recent_bytes_max
    }

    /// Brings the engine up to the present. Called by one thread; takes as long as the disk does.
    pub fn checkpoint(&self) -> Result<(), Fatal> {
        self.checkpoint_if(|_| true).map(|_| ())
    }

    /// The same, but asks `durable` whether the log holds everything up to the entry that the
    /// engine is going to hold. If not nothing is written, and the next call tries again.
    pub fn checkpoint_if(&self, durable: impl FnOnce(LogId) -> bool) -> Result<bool, Fatal> {
        let mut last = self.checkpointing.lock().expect("a panic ends the process");
        let Some(frozen) = self.freeze(*last) else { return Ok(true) };
        if !durable(frozen.meta.applied) {
            return Ok(false);
        }
        self.write_rows(&frozen)?;
        let mut batch = WriteBatch::default();
        let (key, row) = frozen.meta.to_row();
        batch.put(key, row);
        self.engine.apply(batch)?;
        self.engine.flush()?;
        self.remove_dropped(&frozen)?;
        *last = frozen.meta.applied;
        let released = self.state_mut().frozen.take();
        drop((released, frozen));
        self.engine.maintain()?;
        Ok(true)
    }

    /// Sets aside what is to be written; `None` when the engine has everything.
    fn freeze(&self, last: LogId) -> Option<Arc<Frozen>> {
        let _between_commands = self.cursor.lock().expect("a panic ends the process");
        let mut state = self.state_mut();
        if state.frozen.is_some() {
            return state.frozen.clone();
        }
        if state.applied == last && state.dropped.is_empty() {
            return None;
        }
        assert!(state.pending.is_empty(), "commands are applied whole");
        let revision = state.revision;
        let next = Recent::new(revision + 1);
        let above = std::mem::replace(&mut state.engine_revision, revision);
        let frozen = Arc::new(Frozen {
            rows: std::mem::replace(&mut state.recent, next),
            above,
            meta: state.meta(),
            dropped: std::mem::take(&mut state.dropped),
            _pin: self.pin(state.compacted),
        });
        state.frozen = Some(frozen.clone());
        Some(frozen)
    }

    fn write_rows(&self, frozen: &Frozen) -> Result<(), Fatal> {
        let (mut batch, mut bytes) = (WriteBatch::default(), 0);
        let mut next = frozen.rows.first();
        loop {
            let step: Vec<&Arc<RevisionEvents>> =
                frozen.rows.from(next).take(STEP_REVISIONS).collect();
            let Some(last) = step.last() else { break };
            next = last.main + 1;
            for (at, event) in self.surviving(&step) {
                let tombstone = event.kind == EventType::Delete;
                if tombstone {
                    bytes += rows::put_row(&mut batch, at, true, &rows::tombstone_row(&event.kv));
                } else {
                    bytes += rows::put_row(&mut batch, at, false, &event.kv);
                    self.cache().insert(at, event.kv.clone());
                }
                if bytes >= BATCH_BYTES {
                    self.engine.apply(std::mem::take(&mut batch))?;
                    bytes = 0;
                }
            }
        }
        match batch.puts.is_empty() {
            true => Ok(()),
            false => self.engine.apply(batch),
        }
    }

    /// The rows of some revisions that the index still knows.
    fn surviving<'f>(
        &self,
        revisions: &[&'f Arc<RevisionEvents>],
    ) -> Vec<(Revision, &'f ChangeEvent)> {
        let state = self.state();
        let mut surviving = Vec::new();
        for events in revisions {
            for (sub, event) in events.events.iter().enumerate() {
                let at = Revision::new(events.main, sub as i64);
                if state.index.find(&event.key).is_some_and(|slot| slot.contains(at)) {
                    surviving.push((at, event));
                }
            }
        }
        surviving
    }

    fn remove_dropped(&self, frozen: &Frozen) -> Result<(), Fatal> {
        if frozen.dropped.is_empty() {
            return Ok(());
        }
        for tombstones in [false, true] {
            let mut keys = Vec::new();
            for record in frozen.dropped.iter().filter(|it| it.is_tombstone() == tombstones) {
                keys.extend(rows::row_keys(*record));
                if keys.len() >= REMOVE_ROWS {
                    self.engine.delete_many(&keys)?;
                    keys.clear();
                }
            }
            self.engine.delete_many(&keys)?;
        }
        self.engine.flush()
    }
}
