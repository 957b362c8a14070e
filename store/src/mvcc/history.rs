//! Past events, for watchers that start in the past or fell behind: from RAM as they were
//! published, from the engine rebuilt.

use std::sync::Arc;

use proto::EncodedKeyValue;
use proto::mvccpb::event::EventType;

use super::recent::{ChangeEvent, RevisionEvents};
use super::rows::{self, KeyRow};
use super::scan;
use super::state::State;
use super::store::Store;
use crate::{Fatal, ReadError, Refusal, Revision};

/// Revisions looked at in one call, wanted or not.
const LOOKS_MAX: usize = 4096;
/// Of those, under one lock.
const STEP_LOOKS: usize = 512;

#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// Revisions returned at most.
    pub revisions: usize,
    /// Bytes of events after which no further revision is added.
    pub bytes: usize,
}

#[derive(Debug)]
pub struct History {
    /// Revisions with at least one wanted event, ascending. They may hold unwanted events, too.
    pub events: Vec<Arc<RevisionEvents>>,
    /// The first revision not looked at.
    pub next: i64,
    /// The store's revision when the last one was looked at: everything wanted is in `events`
    /// when `next` is above it.
    pub current: i64,
}

impl Store {
    /// Events from revision `from` on, of keys that somebody `wants`.
    ///
    /// # Errors
    /// [`Refusal::Compacted`] when `from` is below the compaction watermark.
    pub fn history(
        &self,
        from: i64,
        limits: HistoryLimits,
        wants: &dyn Fn(&[u8]) -> bool,
    ) -> Result<History, ReadError> {
        let mut history = History { events: Vec::new(), next: from.max(1), current: 0 };
        let (mut bytes, mut looks) = (0, 0);
        let _pin = {
            let state = self.state();
            if from < state.compacted {
                return Err(Refusal::Compacted.into());
            }
            self.pin(state.compacted)
        };
        loop {
            let bottom = {
                let state = self.state();
                history.current = state.revision;
                let full = history.events.len() >= limits.revisions || bytes >= limits.bytes;
                if full || looks >= LOOKS_MAX || history.next > state.revision {
                    return Ok(history);
                }
                let bottom = state.frozen.as_ref().map_or(state.engine_revision, |it| it.above);
                if history.next > bottom {
                    looks += STEP_LOOKS;
                    bytes += from_ram(&state, &mut history, limits, bytes, wants);
                    continue;
                }
                bottom
            };
            let (read, next) = self.scan_engine(history.next, bottom, wants)?;
            looks += STEP_LOOKS;
            history.next = next;
            for events in read {
                let full = history.events.len() >= limits.revisions || bytes >= limits.bytes;
                if full {
                    history.next = events.main;
                    break;
                }
                bytes += bytes_of(&events);
                history.events.push(Arc::new(events));
            }
        }
    }

    /// Wanted events in the engine from revision `from` on; with the first not looked at.
    fn scan_engine(
        &self,
        from: i64,
        bottom: i64,
        wants: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(Vec<RevisionEvents>, i64), Fatal> {
        let mut next = Revision::new(from, 0);
        let mut found: Vec<(Revision, KeyRow)> = Vec::new();
        // A revision is returned whole, so the scan ends between two.
        loop {
            let (rows, after) = scan::key_rows(&*self.reader, next, bottom)?;
            let wanted = rows.into_iter().filter(|(_, row)| wants(&row.key));
            found.extend(wanted);
            next = after;
            if after.sub == 0 {
                break;
            }
            match found.iter().rposition(|(at, _)| at.main < after.main) {
                Some(last) => {
                    found.truncate(last + 1);
                    next = Revision::new(after.main, 0);
                    break;
                }
                None if found.is_empty() && after.main > from => {
                    next = Revision::new(after.main, 0);
                    break;
                }
                None => {}
            }
        }
        let lineages = {
            let state = self.state();
            found.retain(|(at, row)| {
                state.index.find(&row.key).is_some_and(|slot| slot.contains(*at))
            });
            let previous = |(at, row): &(Revision, KeyRow)| previous(&state, &row.key, at.main);
            found.iter().map(previous).collect::<Vec<_>>()
        };
        let values = scan::values(&*self.reader, &found)?;
        let mut revisions: Vec<RevisionEvents> = Vec::new();
        for (((at, row), value), previous) in found.into_iter().zip(values).zip(lineages) {
            let event = event(at, &row, &value, previous);
            match revisions.last_mut().filter(|last| last.main == at.main) {
                Some(last) => last.events.push(event),
                None => revisions.push(RevisionEvents { main: at.main, events: vec![event] }),
            }
        }
        Ok((revisions, next.main))
    }
}

fn event(at: Revision, row: &KeyRow, value: &[u8], previous: Option<Revision>) -> ChangeEvent {
    let (kind, kv) = match row.tombstone {
        true => (EventType::Delete, rows::encode_deleted(&row.key, at.main)),
        false => (EventType::Put, row.encode(at.main, value)),
    };
    let create = !row.tombstone && row.lineage.created == at.main;
    ChangeEvent { kind, key: row.key.clone(), kv, previous, create }
}

/// The version of a key that was live before `main`, if no compaction has taken it.
fn previous(state: &State, key: &[u8], main: i64) -> Option<Revision> {
    let (record, _) = state.index.find(key)?.at(main - 1)?;
    (!record.is_tombstone()).then(|| record.revision())
}

/// Adds wanted revisions in RAM, as far as the limits allow; their bytes.
fn from_ram(
    state: &State,
    history: &mut History,
    limits: HistoryLimits,
    before: usize,
    wants: &dyn Fn(&[u8]) -> bool,
) -> usize {
    let from = history.next;
    let frozen = state.frozen.as_ref().map(|frozen| &frozen.rows);
    let from_frozen = frozen.into_iter().flat_map(|rows| rows.from(from));
    let from_recent = state.recent.from(from.max(state.recent.first()));
    let mut bytes = 0;
    for (looks, events) in from_frozen.chain(from_recent).enumerate() {
        let full = history.events.len() >= limits.revisions || before + bytes >= limits.bytes;
        if full || looks >= STEP_LOOKS {
            history.next = events.main;
            return bytes;
        }
        if events.events.iter().any(|event| wants(&event.key)) {
            bytes += bytes_of(events);
            history.events.push(events.clone());
        }
    }
    history.next = state.revision + 1;
    bytes
}

fn bytes_of(events: &RevisionEvents) -> usize {
    let length = |kv: &EncodedKeyValue| kv.as_bytes().len();
    events.events.iter().map(|event| length(&event.kv)).sum()
}
