//! Opening: the index is rebuilt from the key rows of the engine, values stay where they are.

use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;

use super::apply::Cursor;
use super::auth::{self, Auth};
use super::backlog::Backlog;
use super::cache::Cache;
use super::checkpoint::Checkpointing;
use super::generations::Record;
use super::leases::{self, Lease};
use super::meta::Meta;
use super::pins::Pins;
use super::rows::{self, KeyRow};
use super::state::State;
use super::store::{Store, StoreOptions};
use crate::engine::{Engine, OpenError, Reader, WriteBatch};
use crate::{Fatal, Revision};
use proto::EncodedKeyValue;

/// Records trimmed in a row while nobody waits.
const TRIM_RECORDS: usize = 1 << 16;
const REMOVE_ROWS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

impl Store {
    /// Opens the state the engine holds; an empty engine is an empty store.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when rows fail their checks or do not add up. The engine can be
    /// rebuilt then.
    pub fn open(engine: Arc<dyn Engine>, options: StoreOptions) -> Result<Arc<Self>, OpenError> {
        let reader = engine.reader();
        let mut meta = match reader.get(rows::META_ROW).map_err(damaged)? {
            Some(row) => Meta::from_row(&row)?,
            None => Meta::default(),
        };
        let counters = meta.counters;
        let auth = restore_auth(&mut meta, &*reader)?;
        remove_above(&*engine, &*reader, meta.revision).map_err(damaged)?;
        let mut state = State::new(meta);
        restore_leases(&mut state, &*reader).map_err(damaged)?;
        let backlog = rebuild(&mut state, &*reader).map_err(damaged)?;
        prune(&mut state);
        let found = state.counters();
        if counters.is_some_and(|counters| counters != found) {
            let what = format!("the rows add up to {found:?}, the meta row says {counters:?}");
            return Err(OpenError::Damaged(what));
        }
        let (applied, revision) = (state.applied, state.revision);
        Ok(Arc::new(Self {
            checkpointing: Mutex::new(Checkpointing::new(applied, backlog, &auth)),
            cursor: Mutex::new(Cursor { applied, revision }),
            compacting: Mutex::new(None),
            state: RwLock::new(state),
            auth: auth::Cell::new(auth.auth),
            cache: Mutex::new(Cache::new(options.cache_bytes)),
            pins: Arc::new(Pins::default()),
            reader,
            engine,
            options,
        }))
    }
}

/// An engine's failure at this point means that it has to be rebuilt.
fn damaged(fatal: Fatal) -> OpenError {
    match fatal {
        Fatal::Io { operation, path, source } => OpenError::Io { operation, path, source },
        other => OpenError::Damaged(other.to_string()),
    }
}

/// Removes rows above the meta row's revision: a checkpoint was cut off before it wrote that.
fn remove_above(engine: &dyn Engine, reader: &dyn Reader, revision: i64) -> Result<(), Fatal> {
    for kind in [rows::KEY_ROWS, rows::VALUE_ROWS] {
        let start = rows::row_key(kind, Revision::new(revision + 1, 0));
        let end = [kind + 1];
        loop {
            let mut keys = Vec::new();
            let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
            reader.scan(range, &mut |key, _| {
                keys.push(Bytes::copy_from_slice(key));
                match keys.len() < REMOVE_ROWS {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            if keys.is_empty() {
                break;
            }
            engine.delete_many(&keys)?;
        }
    }
    Ok(())
}

/// Users and roles. Those of a snapshot file may still be among the tables as they came.
fn restore_auth(meta: &mut Meta, reader: &dyn Reader) -> Result<auth::Restored, OpenError> {
    let tabled = Auth::take_tables(&mut meta.tables);
    let malformed = || OpenError::Damaged("the tables of users and roles are malformed".into());
    let mut restored = auth::restore(reader).map_err(damaged)?;
    if restored.rows == 0 {
        restored.auth = Arc::new(tabled.ok_or_else(malformed)?);
    }
    Ok(restored)
}

fn restore_leases(state: &mut State, reader: &dyn Reader) -> Result<(), Fatal> {
    let (start, end) = ([rows::LEASE_ROWS], [rows::LEASE_ROWS + 1]);
    let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    let mut failed = None;
    reader.scan(range, &mut |key, row| match leases::scanned_row(key, row) {
        Ok((id, lease)) => {
            state.leases.restore(id, lease);
            ControlFlow::Continue(())
        }
        Err(fatal) => {
            failed = Some(fatal);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Fills the index; what a checkpoint did not come to remove is left out and returned.
fn rebuild(state: &mut State, reader: &dyn Reader) -> Result<Backlog, Fatal> {
    let mut backlog = Backlog::default();
    let listed = backlog.read_list(reader)?;
    let mut dropped = Vec::new();
    let (start, end) = ([rows::KEY_ROWS], [rows::KEY_ROWS + 1]);
    let mut failed = None;
    let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    reader.scan(range, &mut |key, row| match rows::scanned_key_row(key, row) {
        Ok((at, row)) => {
            let record = row.record(at);
            backlog.hold(record);
            match listed.binary_search(&at) {
                Ok(_) => dropped.push(record),
                Err(_) => restore(state, record, &row),
            }
            ControlFlow::Continue(())
        }
        Err(fatal) => {
            failed = Some(fatal);
            ControlFlow::Break(())
        }
    })?;
    backlog.extend(dropped);
    failed.map_or(Ok(backlog), Err)
}

fn restore(state: &mut State, record: Record, row: &KeyRow) {
    let before = state.index.find(&row.key).filter(|slot| slot.is_live()).map(|slot| slot.newest);
    if let Some(before) = before {
        state.live_bytes -= before.bytes(row.key.len());
        state.history_bytes += before.bytes(row.key.len());
    }
    match row.tombstone {
        true => state.history_bytes += record.bytes(row.key.len()),
        false => state.live_bytes += record.bytes(row.key.len()),
    }
    // etcd's tools may leave a key whose lease is gone.
    let lease = match row.tombstone {
        true => None,
        false => state.leases.handle(row.lease),
    };
    let before = state.index.restore(&row.key, record, row.lineage, lease);
    state.leases.move_key(&row.key, before, lease);
}

/// Drops what complete compactions have dropped: rows whose removal from the engine was cut off.
fn prune(state: &mut State) {
    let finished = state.finished;
    let mut from = Some(Vec::new());
    while let Some(key) = from {
        let mut dropped = Vec::new();
        from = state.index.trim(&key, finished, TRIM_RECORDS, |key_bytes, record| {
            dropped.push((key_bytes, record));
        });
        for (key_bytes, record) in dropped {
            state.drop_row(key_bytes, record);
        }
    }
}

/// Fills an empty engine with the rows of a snapshot, in any order.
pub struct Loader {
    engine: Arc<dyn Engine>,
    batch: WriteBatch,
    bytes: usize,
}

impl Loader {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, batch: WriteBatch::default(), bytes: 0 }
    }

    /// Adds a row: the value etcd stores for it.
    ///
    /// # Errors
    /// [`Fatal::Engine`] also when the value is not what etcd would have written.
    pub fn row(&mut self, at: Revision, tombstone: bool, value: Bytes) -> Result<(), Fatal> {
        let fields = rows::fields(&value).filter(|fields| {
            let bare = fields.main == 0 && fields.lineage.version == 0 && fields.value.is_empty();
            let whole = fields.main == at.main;
            value.is_empty() || if tombstone { bare } else { whole }
        });
        let fields = fields.filter(|_| Record::can_be_at(at));
        if fields.is_none() {
            let what = format!("the row of revision {at} is not a key-value pair etcd would write");
            return Err(Fatal::Engine(what));
        }
        let kv = EncodedKeyValue::from_bytes(value);
        self.bytes += rows::put_row(&mut self.batch, at, tombstone, &kv);
        self.write()
    }

    pub fn lease(&mut self, lease: Lease) -> Result<(), Fatal> {
        self.bytes += leases::put_row(&mut self.batch, lease.id, Some(lease));
        self.write()
    }

    pub fn auth(&mut self, auth: &Auth) -> Result<(), Fatal> {
        let (_, bytes) = auth::put_rows(&mut self.batch, auth);
        self.bytes += bytes;
        self.write()
    }

    fn write(&mut self) -> Result<(), Fatal> {
        if self.bytes >= BATCH_BYTES {
            self.bytes = 0;
            self.engine.apply(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    /// Makes it a store: writes the meta row behind everything else.
    pub fn finish(self, meta: &Meta) -> Result<(), Fatal> {
        self.engine.apply(self.batch)?;
        let mut last = WriteBatch::default();
        let (key, row) = meta.to_row();
        last.put(key, row);
        self.engine.apply(last)?;
        self.engine.flush()
    }
}
