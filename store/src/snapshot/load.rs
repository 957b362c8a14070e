//! Fills an engine from a snapshot file, and takes the file's content from a store.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::{Change, Snapshot, Source, State, buckets};
use crate::Fatal;
use crate::engine::Engine;
use crate::mvcc::{Auth, Loader, Meta, SnapshotSource};

const MEMBERS: &str = "members";
/// What is written between two reopenings of the engine, which give its memory back.
const MAINTAIN_BYTES: usize = 64 << 20;

/// Makes an empty engine hold what the snapshot says.
///
/// # Errors
/// When the file is damaged, says something that no etcd would, or the engine fails.
pub fn load(snapshot: &Snapshot, engine: &Arc<dyn Engine>) -> Result<(), Fatal> {
    let mut loader = Loader::new(engine.clone());
    let mut changes = snapshot.changes()?;
    let mut last = 1;
    let mut bytes = 0;
    while let Some(change) = changes.next()? {
        let value = Bytes::copy_from_slice(change.value);
        last = change.revision.main;
        bytes += value.len();
        loader.row(change.revision, change.tombstone, value)?;
        if bytes >= MAINTAIN_BYTES {
            engine.maintain()?;
            bytes = 0;
        }
    }
    let mut meta = meta_of(snapshot.state(), last)
        .ok_or_else(|| snapshot.damaged("a row of the bucket members is malformed"))?;
    if meta.revision == i64::MAX {
        return Err(snapshot.damaged("there is no revision after its last one"));
    }
    let auth = Auth::take_tables(&mut meta.tables)
        .ok_or_else(|| snapshot.damaged("a row of the buckets of auth is malformed"))?;
    if auth != Auth::default() {
        loader.auth(&auth)?;
    }
    for lease in &snapshot.state().leases {
        loader.lease(*lease)?;
    }
    loader.finish(&meta)?;
    engine.maintain()
}

/// `None` if the members are no members.
fn meta_of(state: &State, last: i64) -> Option<Meta> {
    let mut tables = state.tables.clone();
    let members = tables.remove(MEMBERS).unwrap_or_default();
    let scheduled = state.compaction_scheduled.unwrap_or(-1);
    let finished = state.compaction_finished.unwrap_or(-1);
    Some(Meta {
        applied: state.applied,
        membership: state.membership.clone(),
        members: buckets::decode_members(&members)?,
        revision: last.max(scheduled).max(finished),
        // A compaction that was ordered and not finished goes on.
        compacted: scheduled.max(finished),
        finished,
        tables,
        counters: None,
    })
}

impl Source for SnapshotSource {
    fn state(&self) -> State {
        let meta = &self.meta;
        let mut tables = meta.tables.clone();
        if !meta.members.is_empty() {
            tables.insert(MEMBERS.into(), buckets::encode_members(&meta.members));
        }
        self.auth.put_tables(&mut tables);
        let mark = |main| (main >= 0).then_some(main);
        State {
            applied: meta.applied,
            membership: meta.membership.clone(),
            compaction_scheduled: mark(meta.compacted),
            compaction_finished: mark(meta.finished),
            leases: self.leases.clone(),
            tables,
        }
    }

    fn changes(&self, visit: &mut dyn FnMut(Change<'_>) -> ControlFlow<()>) -> Result<(), Fatal> {
        for row in self.rows() {
            let row = row?;
            let change =
                Change { revision: row.at, tombstone: row.tombstone, value: row.kv.as_bytes() };
            if visit(change).is_break() {
                break;
            }
        }
        Ok(())
    }
}
