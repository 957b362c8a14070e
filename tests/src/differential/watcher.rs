//! Watch streams of one server: what each watcher was told, and whether that is sound by itself.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use crate::script::WatchStream;
use crate::text::{self, Ids};

/// The id that speaks for all watchers of a stream, or for one that was refused.
const NO_WATCHER: i64 = -1;

/// One stream of one server.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) stream: WatchStream,
    pub(crate) log: Log,
}

/// All that came on a stream.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) watchers: BTreeMap<i64, Told>,
    /// Answers to create requests so far.
    pub(crate) created: Vec<WatchResponse>,
    /// The revision of the last progress that was reported for the whole stream.
    pub(crate) progress: i64,
    /// Whether this is the run's own stream, whose events are the history.
    pub(crate) keeps_changes: bool,
    /// The events since the last comparison, if they are kept.
    pub(crate) changes: Vec<Change>,
}

/// What a watcher was told since the last comparison.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) items: Vec<String>,
    /// The revision of its last event, ever.
    pub(crate) last: i64,
    pub(crate) canceled: bool,
    /// The last response said that more of its revision follows.
    in_fragment: bool,
}

impl Log {
    /// Takes a response in.
    ///
    /// # Errors
    /// When it cannot be right, whatever the other server says.
    pub(crate) fn absorb(&mut self, response: WatchResponse, ids: &Ids, now: i64) -> Result<()> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let text = || text::watch(&response, ids);
        ensure!(revision <= now, "ahead of the store, which is at {now}: {}", text());
        if response.created {
            if !response.canceled {
                self.watchers.insert(response.watch_id, Told::default());
            }
            self.created.push(response);
            return Ok(());
        }
        if response.watch_id == NO_WATCHER {
            ensure!(response.events.is_empty() && !response.canceled, "{}", text());
            ensure!(revision >= self.progress, "progress goes back: {}", text());
            self.progress = revision;
            return Ok(());
        }
        let told = self.watchers.get_mut(&response.watch_id);
        let Some(told) = told.filter(|told| !told.canceled) else {
            bail!("for a watcher that does not exist: {}", text());
        };
        if response.canceled {
            told.canceled = true;
            told.items.push(text());
            return Ok(());
        }
        // An empty response with the watcher's own id is a progress notification: those come by
        // the clock, so they are not compared.
        for (index, event) in response.events.iter().enumerate() {
            let kv = event.kv.as_ref().map(proto::EncodedKeyValue::parse).transpose()?;
            let Some(kv) = kv else { bail!("an event without a pair: {}", text()) };
            let at = kv.mod_revision;
            let split = index == 0 && at == told.last && !told.in_fragment;
            ensure!(!split, "a revision is split: {}", text());
            ensure!(at >= told.last, "events go back, after {}: {}", told.last, text());
            ensure!(at <= revision, "the header is behind its events: {}", text());
            told.last = at;
            told.items.push(text::event(event));
            if self.keeps_changes {
                let (key, deleted) = (kv.key.to_vec(), event.r#type == 1);
                self.changes.push(Change { revision: at, key, deleted });
            }
        }
        told.in_fragment = response.fragment;
        Ok(())
    }
}

impl Told {
    /// Whether it was told all of a revision.
    pub(crate) fn has(&self, revision: i64) -> bool {
        self.last >= revision && !self.in_fragment
    }
}

/// What a watcher was asked to watch.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) request: WatchCreateRequest,
    /// Events below are not for it.
    pub(crate) from: i64,
}

/// A change of the store, as the run's own watcher of everything saw it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) deleted: bool,
}

impl Watched {
    /// The revision of the last change that it must be told of.
    pub(crate) fn last_of(&self, history: &[Change]) -> Option<i64> {
        let since = history.iter().rev().take_while(|change| change.revision >= self.from);
        since.filter(|change| self.wants(change)).map(|change| change.revision).next()
    }

    fn wants(&self, change: &Change) -> bool {
        let request = &self.request;
        let key: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
        let inside = match request.range_end.as_slice() {
            [] => change.key == key,
            [0] => change.key.as_slice() >= key,
            end => (key..end).contains(&change.key.as_slice()),
        };
        let filtered = request.filters.iter().any(|filter| match filter {
            0 => !change.deleted,
            1 => change.deleted,
            _ => false,
        });
        inside && !filtered
    }
}

/// The watchers of a stream, as both servers agree they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agreed {
    pub(crate) watchers: BTreeMap<i64, Watched>,
    /// Canceled by a compaction: see the chapter on what is not compared.
    pub(crate) lapsed: BTreeSet<i64>,
}

impl Agreed {
    /// Whether etcd would report progress at `revision`.
    pub(crate) fn reports_progress(&self, revision: i64) -> bool {
        self.lapsed.is_empty()
            && !self.watchers.is_empty()
            && self.watchers.values().all(|watched| watched.request.start_revision <= revision)
    }
}

#[cfg(test)]
mod tests {
    use proto::KeyValue;
    use proto::etcdserverpb::ResponseHeader;
    use proto::mvccpb::Event;

    use super::*;

    /// A response to watcher 0 with events of these revisions.
    fn told(revision: i64, events: &[i64]) -> WatchResponse {
        let event = |at: &i64| {
            let kv = KeyValue { key: "k".into(), mod_revision: *at, ..Default::default() };
            Event { kv: Some((&kv).into()), ..Default::default() }
        };
        WatchResponse {
            header: Some(ResponseHeader { revision, ..Default::default() }),
            events: events.iter().map(event).collect(),
            ..Default::default()
        }
    }

    /// Takes the responses of watcher 0 in; says what was wrong with the last one.
    fn absorb(responses: &[WatchResponse]) -> String {
        let mut log = Log::default();
        let created = WatchResponse { created: true, ..told(1, &[]) };
        log.absorb(created, &Ids::default(), 10).unwrap();
        let (last, before) = responses.split_last().unwrap();
        for response in before {
            log.absorb(response.clone(), &Ids::default(), 10).unwrap();
        }
        let outcome = log.absorb(last.clone(), &Ids::default(), 10);
        outcome.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn what_no_server_may_say_is_found_without_another_one() {
        let fragment = |response| WatchResponse { fragment: true, ..response };
        let canceled = WatchResponse { canceled: true, ..told(5, &[]) };
        let progress = |revision| WatchResponse { watch_id: -1, ..told(revision, &[]) };
        assert_eq!(absorb(&[told(4, &[3, 3, 4]), told(5, &[5])]), "fine");
        assert_eq!(absorb(&[fragment(told(5, &[4, 5])), told(5, &[5])]), "fine");
        let cases = [
            (vec![told(5, &[4, 5]), told(5, &[5])], "a revision is split"),
            (vec![told(5, &[5]), told(5, &[4])], "events go back"),
            (vec![told(5, &[5, 4])], "events go back"),
            (vec![told(4, &[5])], "the header is behind its events"),
            (vec![told(11, &[5])], "ahead of the store"),
            (vec![canceled, told(6, &[6])], "a watcher that does not exist"),
            (vec![WatchResponse { watch_id: 3, ..told(5, &[5]) }], "that does not exist"),
            (vec![progress(5), progress(4)], "progress goes back"),
        ];
        for (responses, complaint) in cases {
            let said = absorb(&responses);
            assert!(said.contains(complaint), "{said:?} is not {complaint:?}");
        }
    }
}
