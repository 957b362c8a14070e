//! Rows in RAM: all revisions since the last checkpoint, as the events they caused.
//!
//! They are also what watchers read, so an event's bytes exist once. A compaction takes rows out
//! again; what it takes before the next checkpoint never reaches the disk.

use std::sync::Arc;

use bytes::Bytes;
use proto::EncodedKeyValue;
use proto::mvccpb::event::EventType;

use super::chunks::Chunks;
use crate::Revision;

/// What a row costs beyond its encoded bytes, roughly: the event, its list, counters.
const EVENT_BYTES: usize = 208;

/// All changes of one revision.
#[derive(Debug)]
pub struct RevisionEvents {
    pub main: i64,
    /// In order of sub-revision.
    pub events: Vec<ChangeEvent>,
}

#[derive(Clone, Debug)]
pub struct ChangeEvent {
    pub kind: EventType,
    /// Shares the bytes of `kv`.
    pub key: Bytes,
    /// For a put all of it, for a delete key and revision.
    pub kv: EncodedKeyValue,
    /// The version that was live before this revision.
    pub previous: Option<Revision>,
    /// Whether this put created the key.
    pub create: bool,
}

#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Main revision of the first entry.
    first: i64,
    entries: Chunks<Entry>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Entry {
    /// `None` when a compaction has dropped all its rows.
    events: Option<Arc<RevisionEvents>>,
    /// Rows no compaction has dropped.
    rows: usize,
}

impl Recent {
    /// Empty; the next revision pushed is `first`.
    pub(super) fn new(first: i64) -> Self {
        Self { first, ..Self::default() }
    }

    /// The first main revision that would be found here.
    pub(super) fn first(&self) -> i64 {
        self.first
    }

    /// RAM in use, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.entries.len() * size_of::<Entry>()
    }

    pub(super) fn push(&mut self, events: Arc<RevisionEvents>) {
        assert_eq!(events.main, self.first + self.entries.len() as i64, "revisions have no gaps");
        self.bytes += bytes_of(&events);
        self.entries.push(Entry { rows: events.events.len(), events: Some(events) });
    }

    fn position(&self, main: i64) -> Option<usize> {
        usize::try_from(main.checked_sub(self.first)?).ok()
    }

    pub(super) fn revision(&self, main: i64) -> Option<&Arc<RevisionEvents>> {
        self.entries.get(self.position(main)?)?.events.as_ref()
    }

    /// The revisions from `main` on that still have rows.
    pub(super) fn from(&self, main: i64) -> impl Iterator<Item = &Arc<RevisionEvents>> {
        let position = self.position(main).unwrap_or(0);
        self.entries.iter_from(position).filter_map(|entry| entry.events.as_ref())
    }

    pub(super) fn row(&self, at: Revision) -> Option<&ChangeEvent> {
        self.revision(at.main)?.events.get(usize::try_from(at.sub).ok()?)
    }

    /// Takes note that a compaction dropped a row of `main`; gives memory back with the last one.
    /// The caller drops what is returned after it let go of its locks.
    pub(super) fn drop_row(&mut self, main: i64) -> Option<Arc<RevisionEvents>> {
        let position = self.position(main)?;
        let entry = self.entries.get_mut(position)?;
        entry.rows = entry.rows.checked_sub(1)?;
        if entry.rows > 0 {
            return None;
        }
        let events = entry.events.take();
        self.bytes -= events.as_deref().map_or(0, bytes_of);
        while self.entries.front().is_some_and(|entry| entry.events.is_none()) {
            self.entries.pop_front();
            self.first += 1;
        }
        events
    }
}

fn bytes_of(events: &RevisionEvents) -> usize {
    let event = |event: &ChangeEvent| event.kv.as_bytes().len() + EVENT_BYTES;
    events.events.iter().map(event).sum::<usize>() + 64
}
