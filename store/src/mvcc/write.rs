//! Changing keys: the changes of one command share a main revision and become visible together.

use std::ops::ControlFlow;
use std::sync::{Arc, RwLockWriteGuard};

use proto::EncodedKeyValue;
use proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader,
};
use proto::mvccpb::event::EventType;

use super::generations::{Record, Slot};
use super::index::Visit;
use super::leaf::KeyParts;
use super::leases::Handle;
use super::range::{RangeWork, STEP_KEYS};
use super::recent::{ChangeEvent, RevisionEvents};
use super::state::State;
use super::store::{Step, Store};
use super::{rows, span_end};
use crate::{Fatal, LogId, Refusal, Revision};

/// A command being applied. Takes the state's lock when it needs it and lets go between bounded
/// steps: its changes are above the revision that readers look at until [`Write::finish`].
pub(super) struct Write<'a> {
    pub(super) store: &'a Store,
    state: Option<RwLockWriteGuard<'a, State>>,
    /// The revision before this command.
    pub(super) before: i64,
    pub(super) changes: i64,
}

pub(super) fn header(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..ResponseHeader::default() }
}

impl<'a> Write<'a> {
    pub(super) fn begin(store: &'a Store, revision: i64) -> Self {
        Self { store, state: None, before: revision, changes: 0 }
    }

    pub(super) fn state(&mut self) -> &mut State {
        self.state.get_or_insert_with(|| self.store.state_mut())
    }

    /// Lets readers in. Before anything that takes longer or locks the state itself.
    pub(super) fn release(&mut self) {
        self.state = None;
    }

    /// The revision as this command sees it: raised by its first change.
    pub(super) fn revision(&self) -> i64 {
        self.before + i64::from(self.changes > 0)
    }

    /// Makes the changes visible, and the entry applied.
    pub(super) fn finish(mut self, id: LogId) -> Option<Arc<RevisionEvents>> {
        let main = self.before + 1;
        let state = self.state();
        state.applied = id;
        if state.pending.is_empty() {
            return None;
        }
        let events = std::mem::take(&mut state.pending);
        let events = Arc::new(RevisionEvents { main, events });
        state.recent.push(events.clone());
        state.revision = main;
        Some(events)
    }

    /// A put, its lease already checked.
    pub(super) fn put_request(
        &mut self,
        request: &PutRequest,
    ) -> Result<Result<PutResponse, Refusal>, Fatal> {
        let PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
        let mut previous = None;
        if *prev_kv || *ignore_value || *ignore_lease {
            self.release();
            previous = self.store.current(key)?;
            if previous.is_none() && (*ignore_value || *ignore_lease) {
                return Ok(Err(Refusal::KeyNotFound));
            }
        }
        match &previous {
            Some(previous) => {
                let fields = rows::own_fields(previous);
                let old = &previous.as_bytes()[fields.value.clone()];
                let value = if *ignore_value { old } else { value };
                self.put(key, value, if *ignore_lease { fields.lease } else { *lease });
            }
            None => self.put(key, value, *lease),
        }
        let header = Some(header(self.revision()));
        Ok(Ok(PutResponse { header, prev_kv: previous.filter(|_| *prev_kv) }))
    }

    pub(super) fn delete_request(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Fatal> {
        let mut prev_kvs = Vec::new();
        if request.prev_kv {
            let (key, range_end) = (request.key.clone(), request.range_end.clone());
            let range = RangeRequest { key, range_end, ..RangeRequest::default() };
            let range = self.range(&range)?.expect("the current revision can be read");
            prev_kvs = range.kvs;
        }
        let deleted = match &request.range_end[..] {
            [] => i64::from(self.delete(&request.key)),
            end => self.delete_range(&request.key, span_end(end)),
        };
        Ok(DeleteRangeResponse { header: Some(header(self.revision())), deleted, prev_kvs })
    }

    /// Reads as of now: the changes of this command so far included.
    pub(super) fn range(
        &mut self,
        request: &RangeRequest,
    ) -> Result<Result<RangeResponse, Refusal>, Fatal> {
        self.release();
        let begun = {
            let state = self.store.state();
            RangeWork::begin(&state, request, self.revision(), state.compacted)
        };
        let mut work = match begun {
            Ok(work) => work,
            Err(refusal) => return Ok(Err(refusal)),
        };
        loop {
            if let Step::Done(response) = work.step(self.store)? {
                return Ok(Ok(response));
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], lease: i64) {
        let at = Revision::new(self.before + 1, self.changes);
        self.changes += 1;
        let state = self.state();
        let attached = state.leases.handle(lease);
        let put = state.index.put(key, Record::put(at, value.len(), lease != 0), attached);
        state.leases.move_key(key, put.detached, attached);
        let kv = rows::encode(key, put.lineage, at.main, value, lease);
        state.live_bytes += Record::put(at, value.len(), false).bytes(key.len());
        if let Some(superseded) = put.superseded.filter(|record| !record.is_tombstone()) {
            state.live_bytes -= superseded.bytes(key.len());
            state.history_bytes += superseded.bytes(key.len());
        }
        let previous = put.superseded.and_then(|record| previous(state, key, record, at.main));
        let create = put.lineage.created == at.main;
        state.pending.push(event(EventType::Put, key.len(), kv, previous, create));
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let at = Revision::new(self.before + 1, self.changes);
        let state = self.state();
        let Some((superseded, detached)) = state.index.delete(key, at) else { return false };
        state.leases.move_key(key, detached, None);
        state.live_bytes -= superseded.bytes(key.len());
        state.history_bytes += superseded.bytes(key.len());
        state.history_bytes += Record::tombstone(at).bytes(key.len());
        let kv = rows::encode_deleted(key, at.main);
        let previous = previous(state, key, superseded, at.main);
        state.pending.push(event(EventType::Delete, key.len(), kv, previous, false));
        self.changes += 1;
        true
    }

    /// Deletes the keys of a lease in their order.
    pub(super) fn delete_attached(&mut self, lease: Handle) {
        let mut in_step = 0;
        while let Some(key) = self.state().leases.first_key(lease) {
            let key = key.to_vec();
            assert!(self.delete(&key), "only live keys are attached");
            in_step += 1;
            if in_step == STEP_KEYS {
                in_step = 0;
                self.release();
            }
        }
    }

    fn delete_range(&mut self, key: &[u8], end: Option<&[u8]>) -> i64 {
        let mut deleted = 0;
        let mut from = Some(key.to_vec());
        while let Some(key) = from {
            let mut live = Live { keys: Vec::new(), budget: STEP_KEYS };
            from = self.state().index.walk(&key, end, &mut live);
            for key in live.keys {
                deleted += i64::from(self.delete(&key));
            }
            if from.is_some() {
                self.release();
            }
        }
        deleted
    }
}

fn event(
    kind: EventType,
    key_bytes: usize,
    kv: EncodedKeyValue,
    previous: Option<Revision>,
    create: bool,
) -> ChangeEvent {
    let field = rows::own_fields(&kv).key;
    debug_assert_eq!(field.len(), key_bytes);
    ChangeEvent { kind, key: kv.as_bytes().slice(field), kv, previous, create }
}

/// The version that was live before revision `main`, given the record that was the newest.
fn previous(state: &State, key: &[u8], newest: Record, main: i64) -> Option<Revision> {
    let record = match newest.main == main {
        // Changed twice by this command.
        true => state.index.find(key)?.at(main - 1)?.0,
        false => newest,
    };
    (!record.is_tombstone()).then(|| record.revision())
}

/// Collects live keys on a walk.
struct Live {
    keys: Vec<Vec<u8>>,
    budget: usize,
}

impl<'s> Visit<'s> for Live {
    fn slot(&mut self, key: KeyParts<'s>, slot: &'s Slot) -> ControlFlow<()> {
        if self.budget == 0 {
            return ControlFlow::Break(());
        }
        self.budget -= 1;
        if slot.is_live() {
            self.keys.push(key.to_vec());
        }
        ControlFlow::Continue(())
    }
}
