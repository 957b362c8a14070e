//! Which watchers want a key: a hash map for single keys, an interval tree for ranges.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::interval::{End, IntervalTree};

/// The keys a watcher wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Span {
    Key(Bytes),
    Range(Bytes, End),
}

impl Span {
    /// A span as requests spell it; `None` when it can contain no key.
    pub(super) fn new(key: Vec<u8>, range_end: Vec<u8>) -> Option<Self> {
        // No key means the smallest one.
        let key = Bytes::from(if key.is_empty() { vec![0] } else { key });
        match range_end.as_slice() {
            [] => Some(Self::Key(key)),
            [0] => Some(Self::Range(key, End::Never)),
            end if *end <= *key => None,
            _ => Some(Self::Range(key, End::At(range_end.into()))),
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Span::Key(wanted) => wanted == key,
            Span::Range(start, End::Never) => start.as_ref() <= key,
            Span::Range(start, End::At(end)) => start.as_ref() <= key && key < end.as_ref(),
        }
    }
}

/// Watchers by span. A watcher is known by a number.
#[derive(Default)]
pub(super) struct Index {
    keys: HashMap<Bytes, BTreeSet<usize>>,
    ranges: IntervalTree,
    len: usize,
}

impl Index {
    /// Adds a watcher that is not in the index.
    pub(super) fn insert(&mut self, span: &Span, watcher: usize) {
        self.len += 1;
        match span {
            Span::Key(key) => {
                self.keys.entry(key.clone()).or_default().insert(watcher);
            }
            Span::Range(start, end) => self.ranges.insert(start.clone(), end.clone(), watcher),
        }
    }

    /// Removes a watcher that is in the index.
    pub(super) fn remove(&mut self, span: &Span, watcher: usize) {
        self.len -= 1;
        match span {
            Span::Key(key) => {
                let Some(watchers) = self.keys.get_mut(key) else { return };
                watchers.remove(&watcher);
                if watchers.is_empty() {
                    self.keys.remove(key);
                }
            }
            Span::Range(start, end) => self.ranges.remove(start, end, watcher),
        }
    }

    /// Calls `visit` once with each watcher that wants `key`.
    pub(super) fn wanting(&self, key: &[u8], mut visit: impl FnMut(usize)) {
        if let Some(watchers) = self.keys.get(key) {
            watchers.iter().copied().for_each(&mut visit);
        }
        self.ranges.containing(key, &mut visit);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.ranges.clear();
        self.len = 0;
    }
}
