//! Checkpoints: what happened since the last one moves from RAM into the engine.
//!
//! 1. Freeze: the newest rows and the meta row of this moment are set aside; new rows collect anew.
//! 2. Rows that no compaction has dropped are written, then the meta row together with the leases,
//!    users and roles that changed, then all is flushed.
//! 3. The frozen rows are let go.
//! 4. Rows that compactions dropped before the freeze are removed: only now, because until the
//!    meta row was durable a restart would have begun from an older state that needs them. This
//!    goes on until new rows wait for their checkpoint; the rest is the [`Backlog`]'s.
//!
//! The engine keeps all it rewrites in memory until it is maintained, so that happens in between
//! as well, whenever enough has come together.
//!
//! Cut off anywhere, the engine holds the state of its meta row, and perhaps rows above its
//! revision (removed at the next open) and rows its compactions dropped (left out by it).
//! Commands are applied meanwhile and never wait; removals of a compaction do, because which rows
//! are written must agree with the meta row.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::auth::{self, Auth};
use super::backlog::Backlog;
use super::chunks::Chunks;
use super::generations::Record;
use super::leases;
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
/// Portions of the backlog removed even while new rows wait, so that it cannot grow for ever.
const PORTIONS_MIN: usize = 2;

/// What a checkpoint set aside. Readers still find the rows here.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) rows: Recent,
    /// The rows are above this revision.
    pub(super) above: i64,
    meta: Meta,
    leases: leases::Changes,
    auth: Arc<Auth>,
    dropped: Chunks<Record>,
    _pin: Pin,
}

/// What the thread that makes checkpoints knows of the engine.
#[derive(Debug)]
pub(super) struct Checkpointing {
    /// What the last checkpoint wrote.
    applied: LogId,
    backlog: Backlog,
    /// Users and roles as they were written last; `None` until then.
    auth: Option<Arc<Auth>>,
    auth_rows: u32,
    /// Bytes the engine has rewritten and not given back, roughly.
    rewritten: u64,
    /// How often it was maintained in this checkpoint.
    maintained: u32,
    /// The engine is no longer this store's to write.
    retired: bool,
}

impl Checkpointing {
    pub(super) fn new(applied: LogId, backlog: Backlog, auth: &auth::Restored) -> Self {
        let (rewritten, maintained, retired) = Default::default();
        let auth_rows = auth.rows;
        let auth = (auth_rows > 0).then(|| auth.auth.clone());
        Self { applied, backlog, auth, auth_rows, rewritten, maintained, retired }
    }
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

    /// Writes to the engine no more, once a checkpoint that is under way has ended: another store is
    /// going to take its place.
    pub fn retire(&self) {
        self.checkpointing.lock().expect("a panic ends the process").retired = true;
    }

    /// The same, but asks `durable` whether the log holds everything up to the entry that the
    /// engine is going to hold. If not nothing is written, and the next call tries again.
    pub fn checkpoint_if(&self, durable: impl FnOnce(LogId) -> bool) -> Result<bool, Fatal> {
        let mut work = self.checkpointing.lock().expect("a panic ends the process");
        if work.retired {
            return Ok(true);
        }
        let Some(frozen) = self.freeze(&work) else { return Ok(true) };
        if !durable(frozen.meta.applied) {
            return Ok(false);
        }
        self.write_rows(&frozen, &mut work)?;
        work.backlog.extend(frozen.dropped.iter().copied());
        let mut batch = WriteBatch::default();
        work.backlog.put_list(&mut batch);
        for (id, lease) in &frozen.leases {
            work.rewritten += leases::put_row(&mut batch, *id, *lease) as u64;
        }
        let gone = put_auth(&mut batch, &frozen.auth, &mut work);
        let (key, row) = frozen.meta.to_row();
        batch.put(key, row);
        self.engine.apply(batch)?;
        self.engine.flush()?;
        self.remove(leases::gone_rows(&frozen.leases).chain(auth::gone_rows(gone)))?;
        work.applied = frozen.meta.applied;
        let frozen_bytes = frozen.rows.bytes();
        let released = self.state_mut().frozen.take();
        drop((released, frozen));
        let removed = self.remove_dropped(&mut work)?;
        self.maintain(&mut work)?;
        let left = work.backlog.len();
        let maintained = std::mem::take(&mut work.maintained);
        tracing::debug!(frozen_bytes, removed, left, maintained, "checkpoint");
        Ok(true)
    }

    fn maintain(&self, work: &mut Checkpointing) -> Result<(), Fatal> {
        work.rewritten = 0;
        work.maintained += 1;
        self.engine.maintain()
    }

    /// Sets aside what is to be written; `None` when the engine has everything.
    fn freeze(&self, work: &Checkpointing) -> Option<Arc<Frozen>> {
        let _between_commands = self.cursor.lock().expect("a panic ends the process");
        let mut state = self.state_mut();
        if state.frozen.is_some() {
            return state.frozen.clone();
        }
        if state.applied == work.applied && state.dropped.is_empty() && work.backlog.is_empty() {
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
            leases: state.leases.take_changes(),
            auth: self.auth(),
            dropped: std::mem::take(&mut state.dropped),
            _pin: self.pin(state.compacted),
        });
        state.frozen = Some(frozen.clone());
        Some(frozen)
    }

    fn write_rows(&self, frozen: &Frozen, work: &mut Checkpointing) -> Result<(), Fatal> {
        let (mut batch, mut bytes) = (WriteBatch::default(), 0);
        let mut next = frozen.rows.first();
        loop {
            let step: Vec<&Arc<RevisionEvents>> =
                frozen.rows.from(next).take(STEP_REVISIONS).collect();
            let Some(last) = step.last() else { break };
            next = last.main + 1;
            for (record, event) in self.surviving(&step) {
                let at = record.revision();
                work.backlog.hold(record);
                if event.kind == EventType::Delete {
                    bytes += rows::put_row(&mut batch, at, true, &rows::tombstone_row(&event.kv));
                } else {
                    bytes += rows::put_row(&mut batch, at, false, &event.kv);
                    self.cache().insert(at, event.kv.clone());
                }
                if bytes >= BATCH_BYTES {
                    self.write_batch(std::mem::take(&mut batch), bytes, work)?;
                    bytes = 0;
                }
            }
        }
        match batch.puts.is_empty() {
            true => Ok(()),
            false => self.write_batch(batch, bytes, work),
        }
    }

    fn write_batch(
        &self,
        batch: WriteBatch,
        bytes: usize,
        work: &mut Checkpointing,
    ) -> Result<(), Fatal> {
        let bytes = bytes as u64;
        let bound = work.backlog.portion_bytes(self.options.rewrite_bytes as u64);
        if work.rewritten > 0 && work.rewritten + bytes > bound {
            self.maintain(work)?;
        }
        work.rewritten += bytes;
        self.engine.apply(batch)
    }

    /// The rows of some revisions that the index still knows.
    fn surviving<'f>(
        &self,
        revisions: &[&'f Arc<RevisionEvents>],
    ) -> Vec<(Record, &'f ChangeEvent)> {
        let state = self.state();
        let mut surviving = Vec::new();
        for events in revisions {
            for (sub, event) in events.events.iter().enumerate() {
                let at = Revision::new(events.main, sub as i64);
                let record = state.index.find(&event.key).and_then(|slot| slot.record(at));
                surviving.extend(record.map(|record| (record, event)));
            }
        }
        surviving
    }

    /// Returns how many rows.
    fn remove_dropped(&self, work: &mut Checkpointing) -> Result<usize, Fatal> {
        let (mut portions, mut removed) = (0, 0);
        while !work.backlog.is_empty() && (portions < PORTIONS_MIN || !self.checkpoint_due()) {
            let bound = work.backlog.portion_bytes(self.options.rewrite_bytes as u64);
            let portion = work.backlog.portion(bound);
            if work.rewritten > 0 && work.rewritten + portion.bytes > bound {
                self.maintain(work)?;
            }
            work.rewritten += portion.bytes;
            portions += 1;
            removed += portion.records.len();
            // A row is there for as long as its key row is, so that goes last.
            let records = || portion.records.iter().copied();
            self.remove(records().flat_map(rows::value_rows))?;
            self.remove(records().map(|record| rows::key_row(record.revision())))?;
        }
        if work.backlog.is_empty() {
            self.engine.delete_many(&work.backlog.take_list())?;
        }
        Ok(removed)
    }

    fn remove(&self, mut keys: impl Iterator<Item = Bytes>) -> Result<(), Fatal> {
        loop {
            let some: Vec<Bytes> = keys.by_ref().take(REMOVE_ROWS).collect();
            if some.is_empty() {
                return Ok(());
            }
            self.engine.delete_many(&some)?;
        }
    }
}

/// Adds users and roles if they have changed. Returns which of their rows are not needed any more.
fn put_auth(batch: &mut WriteBatch, auth: &Arc<Auth>, work: &mut Checkpointing) -> Range<u32> {
    let is_written = work.auth.as_ref().is_some_and(|written| Arc::ptr_eq(written, auth));
    let is_unused = work.auth.is_none() && work.auth_rows == 0 && **auth == Auth::default();
    if is_written || is_unused {
        return 0..0;
    }
    let (rows, bytes) = auth::put_rows(batch, auth);
    work.rewritten += bytes as u64;
    work.auth = Some(auth.clone());
    let before = std::mem::replace(&mut work.auth_rows, rows);
    rows..before.max(rows)
}
