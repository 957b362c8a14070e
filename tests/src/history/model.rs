//! The store as the checker knows it: a plain map, and what a write does to it.

use std::collections::BTreeMap;

use crate::history::facts::{Entry, Event, Guard, Key, Operation, Revision, Write};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    keys: BTreeMap<Key, Entry>,
}

impl State {
    /// Both ends included.
    pub fn range(&self, (first, last): (Key, Key)) -> Vec<(Key, Entry)> {
        self.keys.range(first..=last).map(|(key, entry)| (*key, *entry)).collect()
    }

    pub fn holds(&self, guard: Guard) -> bool {
        let modified = self.keys.get(&guard.key).map_or(0, |entry| entry.modified);
        modified == guard.modified
    }

    /// What `write` must do if it happens as the given revision.
    pub fn effect(&self, write: &Write, revision: i64) -> Vec<Event> {
        if write.guard.is_some_and(|guard| !self.holds(guard)) {
            return Vec::new();
        }
        let mut events = Vec::new();
        for operation in &write.operations {
            match *operation {
                Operation::Put { key, value } => {
                    let before = self.keys.get(&key);
                    let entry = Entry {
                        value,
                        create: before.map_or(revision, |entry| entry.create),
                        modified: revision,
                        version: before.map_or(1, |entry| entry.version + 1),
                    };
                    events.push(Event { key, put: Some(entry) });
                }
                Operation::Delete { first, last } => {
                    let gone = self.keys.range(first..=last);
                    events.extend(gone.map(|(key, _)| Event { key: *key, put: None }));
                }
            }
        }
        events
    }

    pub fn apply(&mut self, revision: &Revision) {
        for event in &revision.events {
            match event.put {
                Some(entry) => self.keys.insert(event.key, entry),
                None => self.keys.remove(&event.key),
            };
        }
    }
}
