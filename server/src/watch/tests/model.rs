//! A store that is a list of revisions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use proto::mvccpb::event::EventType;
use proto::{EncodedKeyValue, KeyValue};
use store::mvcc::{ChangeEvent, History, HistoryLimits, RevisionEvents};
use store::{Fatal, ReadError, Refusal, Revision};

use crate::watch::HistorySource;

/// A change to make: `None` deletes.
pub(crate) type Change = (String, Option<String>);

#[derive(Default)]
pub(crate) struct Model {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Revision 2 first.
    revisions: Vec<Arc<RevisionEvents>>,
    compacted: Option<i64>,
    rows: BTreeMap<Revision, EncodedKeyValue>,
    latest: BTreeMap<String, (Revision, KeyValue)>,
}

impl Model {
    /// Applies changes as one revision. Deletes of missing keys are left out; `None` if no change
    /// is left.
    pub(crate) fn apply(&self, changes: &[Change]) -> Option<Arc<RevisionEvents>> {
        let mut state = self.state();
        let main = state.revisions.len() as i64 + 2;
        let mut events = Vec::new();
        let mut seen = Vec::new();
        for (key, value) in changes {
            if seen.contains(key) || (value.is_none() && !state.latest.contains_key(key)) {
                continue;
            }
            seen.push(key.clone());
            let at = Revision::new(main, events.len() as i64);
            events.push(state.change(at, key, value.as_deref()));
        }
        if events.is_empty() {
            return None;
        }
        let revision = Arc::new(RevisionEvents { main, events });
        state.revisions.push(revision.clone());
        Some(revision)
    }

    pub(crate) fn compact(&self, revision: i64) {
        self.state().compacted = Some(revision);
    }

    pub(crate) fn all(&self) -> Vec<Arc<RevisionEvents>> {
        self.state().revisions.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn change(&mut self, at: Revision, key: &str, value: Option<&str>) -> ChangeEvent {
        let previous = self.latest.get(key).cloned();
        let kv = match value {
            Some(value) => KeyValue {
                key: key.to_owned().into(),
                create_revision: previous.as_ref().map_or(at.main, |(_, kv)| kv.create_revision),
                mod_revision: at.main,
                version: previous.as_ref().map_or(1, |(_, kv)| kv.version + 1),
                value: value.to_owned().into(),
                lease: 0,
            },
            None => {
                KeyValue { key: key.to_owned().into(), mod_revision: at.main, ..Default::default() }
            }
        };
        let kind = if value.is_some() { EventType::Put } else { EventType::Delete };
        match value {
            Some(_) => self.latest.insert(key.into(), (at, kv.clone())),
            None => self.latest.remove(key),
        };
        let encoded = EncodedKeyValue::new(&kv);
        self.rows.insert(at, encoded.clone());
        ChangeEvent {
            kind,
            key: Bytes::from(key.to_owned()),
            kv: encoded,
            create: kind == EventType::Put && previous.is_none(),
            previous: previous.map(|(at, _)| at),
        }
    }
}

impl HistorySource for Model {
    fn revision(&self) -> i64 {
        self.state().revisions.len() as i64 + 1
    }

    fn compacted(&self) -> i64 {
        self.state().compacted.unwrap_or(-1)
    }

    fn history(
        &self,
        from: i64,
        limits: HistoryLimits,
        wants: &dyn Fn(&[u8]) -> bool,
    ) -> Result<History, ReadError> {
        let state = self.state();
        if from < state.compacted.unwrap_or(-1) {
            return Err(Refusal::Compacted.into());
        }
        let mut events = Vec::new();
        // Revision 1 is the empty store: nothing happened in it.
        let mut next = from.max(2);
        let after = state.revisions.iter().filter(|revision| revision.main >= from);
        for revision in after.take(limits.revisions) {
            next = revision.main + 1;
            let wanted = revision.events.iter().filter(|event| wants(&event.key)).cloned();
            let wanted = wanted.collect::<Vec<_>>();
            if !wanted.is_empty() {
                events.push(Arc::new(RevisionEvents { main: revision.main, events: wanted }));
            }
            if events.iter().flat_map(|revision| &revision.events).count() * 64 >= limits.bytes {
                break;
            }
        }
        Ok(History { events, next, current: state.revisions.len() as i64 + 1 })
    }

    fn row(&self, at: Revision) -> Result<Option<EncodedKeyValue>, Fatal> {
        Ok(self.state().rows.get(&at).cloned())
    }
}
