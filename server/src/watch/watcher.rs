//! One watcher: what it wants, where it stands, and the batch of events being put together for it.

use std::sync::Arc;

use proto::EncodedKeyValue;
use proto::etcdserverpb::WatchCreateRequest;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::mvccpb::Event;
use proto::mvccpb::event::EventType;
use store::Fatal;
use store::mvcc::{ChangeEvent, RevisionEvents};

use super::index::Span;
use super::source::HistorySource;
use crate::budget::Claim;
use crate::limits;

/// What a watcher wants; fixed when it is created.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) span: Span,
    /// The revision it asked to start at; 0 is the next one.
    pub(super) start: i64,
    pub(super) puts: bool,
    pub(super) deletes: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    pub(super) progress: bool,
}

impl Spec {
    /// `None` if no key can be in its span.
    pub(super) fn new(request: WatchCreateRequest) -> Option<Self> {
        let drops = |filter: FilterType| request.filters.contains(&(filter as i32));
        let (puts, deletes) = (!drops(FilterType::Noput), !drops(FilterType::Nodelete));
        Some(Self {
            span: Span::new(request.key, request.range_end)?,
            start: request.start_revision,
            puts,
            deletes,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress: request.progress_notify,
        })
    }

    pub(super) fn wants(&self, kind: EventType) -> bool {
        match kind {
            EventType::Put => self.puts,
            EventType::Delete => self.deletes,
        }
    }
}

/// What a watcher takes. Whoever keeps its keys shares them.
pub fn bytes_of(request: &WatchCreateRequest) -> usize {
    limits::WATCHER_BYTES + request.key.len() + request.range_end.len()
}

pub(super) struct Watcher {
    pub(super) stream: usize,
    pub(super) id: i64,
    pub(super) spec: Arc<Spec>,
    pub(super) place: Place,
    pub(super) batch: Batch,
    /// It was sent events since the last progress tick.
    pub(super) busy: bool,
    /// For all of this.
    pub(super) claim: Claim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the lane's index. Wants revisions from `from` on.
    Synced { from: i64 },
    /// Has everything before `next`. Resumes when `after` responses of its stream were taken.
    Lagging { next: i64, after: u64 },
}

/// Events on their way into one response. Of a lagging watcher it covers all before `next`.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Event>,
    pub(super) bytes: usize,
    pub(super) revisions: usize,
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Batch {
    pub(super) fn push(
        &mut self,
        revision: i64,
        change: &ChangeEvent,
        prev_kv: Option<EncodedKeyValue>,
    ) {
        if self.events.is_empty() {
            self.first = revision;
        }
        if self.last != revision {
            self.revisions += 1;
            self.last = revision;
        }
        self.bytes += size_of::<Event>() + change.kv.as_bytes().len();
        self.bytes += prev_kv.as_ref().map_or(0, |kv| kv.as_bytes().len());
        self.events.push(Event {
            r#type: change.kind as i32,
            kv: Some(change.kv.clone()),
            prev_kv,
        });
    }
}

/// The value before a change, read when the first watcher wants it and then shared.
pub(super) struct Previous<'a> {
    source: &'a dyn HistorySource,
    revision: i64,
    change: &'a ChangeEvent,
    read: Option<Option<EncodedKeyValue>>,
}

impl<'a> Previous<'a> {
    pub(super) fn new(
        source: &'a dyn HistorySource,
        revision: &RevisionEvents,
        change: &'a ChangeEvent,
    ) -> Self {
        Self { source, revision: revision.main, change, read: None }
    }

    /// As a read at the revision before the change would see it: nothing if that is compacted,
    /// even while the row still exists.
    pub(super) fn get(&mut self) -> Result<Option<EncodedKeyValue>, Fatal> {
        if let Some(read) = &self.read {
            return Ok(read.clone());
        }
        let read = match self.change.previous {
            Some(at) if !self.change.create && self.revision > self.source.compacted() => {
                self.source.row(at)?
            }
            _ => None,
        };
        self.read = Some(read.clone());
        Ok(read)
    }
}
