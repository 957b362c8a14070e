//! The state in RAM that one lock guards: the index, the newest rows, watermarks, small tables.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::internal;

use super::alarms::Alarms;
use super::checkpoint::Frozen;
use super::chunks::Chunks;
use super::compact::Due;
use super::generations::Record;
use super::hash::HashKv;
use super::index::Index;
use super::leases::Leases;
use super::meta::{Counters, Member, Meta, Tables};
use super::recent::{ChangeEvent, Recent, RevisionEvents};
use crate::{LogId, Revision};

#[derive(Debug)]
pub(super) struct State {
    pub(super) index: Index,
    /// Rows above `engine_revision`.
    pub(super) recent: Recent,
    /// Rows a checkpoint is writing: at or below `engine_revision`.
    pub(super) frozen: Option<Arc<Frozen>>,
    /// Rows at or below it are in the engine, or in `frozen` on their way there.
    pub(super) engine_revision: i64,
    /// Changes of the command being applied, at `revision + 1`. Readers see them only once
    /// `revision` is raised.
    pub(super) pending: Vec<ChangeEvent>,
    pub(super) applied: LogId,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) finished: i64,
    /// Compactions whose removal is not complete, oldest first.
    pub(super) due: Due,
    /// Of the newest compactions.
    pub(super) hashes: VecDeque<HashKv>,
    pub(super) membership: Option<(LogId, internal::Membership)>,
    pub(super) members: Vec<Member>,
    pub(super) tables: Tables,
    /// What the tables say of alarms.
    pub(super) alarms: Alarms,
    pub(super) leases: Leases,
    /// Rows that are the live version of their key.
    pub(super) live_bytes: u64,
    /// All others: old versions and tombstones.
    pub(super) history_bytes: u64,
    /// Compacted rows that the engine holds or is about to hold.
    pub(super) dropped: Chunks<Record>,
}

impl State {
    pub(super) fn new(meta: Meta) -> Self {
        Self {
            index: Index::new(),
            recent: Recent::new(meta.revision + 1),
            frozen: None,
            engine_revision: meta.revision,
            pending: Vec::new(),
            applied: meta.applied,
            revision: meta.revision,
            compacted: meta.compacted,
            finished: meta.finished,
            due: Due::resumed(meta.finished, meta.compacted),
            hashes: VecDeque::new(),
            membership: meta.membership,
            members: meta.members,
            alarms: Alarms::of(&meta.tables),
            tables: meta.tables,
            leases: Leases::default(),
            live_bytes: 0,
            history_bytes: 0,
            dropped: Chunks::default(),
        }
    }

    /// All of the state that is neither index nor rows nor leases. Amid a command the counters are off.
    pub(super) fn meta(&self) -> Meta {
        Meta {
            applied: self.applied,
            membership: self.membership.clone(),
            members: self.members.clone(),
            revision: self.revision,
            compacted: self.compacted,
            finished: self.finished,
            tables: self.tables.clone(),
            counters: Some(self.counters()),
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let (live_bytes, keys) = (self.live_bytes, self.index.live());
        Counters { live_bytes, keys, leases: self.leases.len() as u64 }
    }

    /// The row at `at`, if it is in RAM.
    pub(super) fn row(&self, at: Revision) -> Option<&ChangeEvent> {
        if at.main > self.revision {
            self.pending.get(usize::try_from(at.sub).ok()?)
        } else if at.main > self.engine_revision {
            self.recent.row(at)
        } else {
            self.frozen.as_ref()?.rows.row(at)
        }
    }

    /// Accounts for a record that left the index. What is returned is to be dropped unlocked.
    pub(super) fn drop_row(
        &mut self,
        key_bytes: usize,
        record: Record,
    ) -> Option<Arc<RevisionEvents>> {
        self.history_bytes -= record.bytes(key_bytes);
        if record.main > self.engine_revision {
            return self.recent.drop_row(record.main);
        }
        self.dropped.push(record);
        None
    }

    /// RAM that a checkpoint would give back.
    pub(super) fn recent_bytes(&self) -> usize {
        self.recent.bytes() + self.dropped.len() * size_of::<Record>() + self.leases.changed_bytes()
    }
}
