//! A lane: the watchers of all streams of one runtime, and the task that feeds the synced ones.
//!
//! Everything here runs on that runtime's thread, so the lane's lock is never contended.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use slab::Slab;
use store::Fatal;

use super::hub::{Hub, Signal};
use super::index::Index;
use super::ring::Run;
use super::source::HistorySource;
use super::stream::{Outgoing, Stream};
use super::subscription::Subscription;
use super::watcher::{Place, Previous, Watcher};

/// Runs matched before other tasks of the runtime get their turn.
const MATCH_RUNS: usize = 16;

pub struct Lane {
    pub(super) hub: Arc<Hub>,
    signal: Arc<Signal>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) hub: Arc<Hub>,
    pub(super) signal: Arc<Signal>,
    /// Synced watchers.
    pub(super) index: Index,
    /// Every synced watcher's events up to here are in its stream's queue. While there is no
    /// synced watcher it stands still.
    pub(super) cursor: i64,
    pub(super) watchers: Slab<Watcher>,
    pub(super) streams: Slab<Stream>,
    /// Bytes that wait in the queues of all streams, or were handed out and not yet sent.
    pub(super) held: usize,
    /// Synced watchers whose batch is not empty. Only while a run is matched.
    touched: Vec<usize>,
    pub(super) closed: bool,
}

impl Lane {
    pub(super) fn new(hub: Arc<Hub>, signal: Arc<Signal>) -> Self {
        let state = Mutex::new(State {
            hub: hub.clone(),
            signal: signal.clone(),
            index: Index::default(),
            cursor: 0,
            watchers: Slab::new(),
            streams: Slab::new(),
            held: 0,
            touched: Vec::new(),
            closed: false,
        });
        Self { hub, signal, state }
    }

    /// Feeds the lane's watchers until the hub closes. To be spawned on the runtime of the streams.
    pub async fn run(self: Arc<Self>) {
        loop {
            if self.hub.is_closed() {
                return self.state().close();
            }
            let more = self.state().advance();
            if more {
                tokio::task::yield_now().await;
            } else {
                self.signal.bell.notified().await;
            }
        }
    }

    /// A new stream of this lane. Dropping it releases everything it holds.
    pub fn subscribe(self: &Arc<Self>) -> Subscription {
        self.signal.streams.fetch_add(1, Ordering::Relaxed);
        let stream = self.state().streams.insert(Stream::default());
        Subscription::new(self.clone(), stream)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }
}

impl State {
    /// Brings the synced watchers up to all that is published.
    pub(super) fn drain(&mut self) {
        while self.advance() {}
    }

    /// Brings the synced watchers one step further. Whether there is more to do.
    fn advance(&mut self) -> bool {
        if self.index.is_empty() {
            return false;
        }
        let (runs, last) = {
            let ring = self.hub.ring();
            (ring.since(self.cursor + 1, MATCH_RUNS), ring.last())
        };
        let Some(runs) = runs else {
            // Published faster than this runtime could match: the store still has it.
            self.fall_behind();
            return false;
        };
        let source = self.hub.source.clone();
        for (_, run) in runs {
            if let Err(fatal) = self.match_run(&run, &*source) {
                self.hub.fail(fatal);
                self.close();
                return false;
            }
            // Run by run: whoever waited for one write before the next sees two responses.
            self.send_touched();
        }
        self.cursor < last
    }

    /// Adds a run's events to the batches of the synced watchers that want them.
    fn match_run(&mut self, run: &Run, source: &dyn HistorySource) -> Result<(), Fatal> {
        let Self { index, watchers, touched, cursor, .. } = self;
        for revision in run.iter().filter(|revision| revision.main > *cursor) {
            for change in &revision.events {
                let mut previous = Previous::new(source, revision, change);
                let mut outcome = Ok(());
                index.wanting(&change.key, |key| {
                    let watcher = &mut watchers[key];
                    let Place::Synced { from } = watcher.place else {
                        unreachable!("the index holds synced watchers only");
                    };
                    if revision.main < from || !watcher.spec.wants(change.kind) || outcome.is_err()
                    {
                        return;
                    }
                    let prev_kv = match watcher.spec.prev_kv.then(|| previous.get()) {
                        None => None,
                        Some(Ok(prev_kv)) => prev_kv,
                        Some(Err(fatal)) => {
                            outcome = Err(fatal);
                            return;
                        }
                    };
                    if watcher.batch.events.is_empty() {
                        touched.push(key);
                    }
                    watcher.batch.push(revision.main, change, prev_kv);
                });
                outcome?;
            }
        }
        self.cursor = run.last().expect("a run is never empty").main;
        Ok(())
    }

    /// Queues the batches of synced watchers. A watcher whose stream has no room falls behind.
    fn send_touched(&mut self) {
        for key in std::mem::take(&mut self.touched) {
            let watcher = &mut self.watchers[key];
            let batch = std::mem::take(&mut watcher.batch);
            let stream = &mut self.streams[watcher.stream];
            if stream.is_full(&self.hub.limits, self.held) {
                let after = stream.mark();
                stream.lagging.push_back(key);
                watcher.place = Place::Lagging { next: batch.first, after };
                self.index.remove(&watcher.spec.span, key);
                self.signal.lagging.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            watcher.busy = true;
            self.signal.events.fetch_add(batch.events.len(), Ordering::Relaxed);
            let (id, fragment) = (watcher.id, watcher.spec.fragment);
            self.held += stream.push(Outgoing::events(batch.last, id, batch, fragment));
        }
        self.listen();
    }

    /// All synced watchers become lagging ones.
    fn fall_behind(&mut self) {
        for (key, watcher) in &mut self.watchers {
            let Place::Synced { from } = watcher.place else { continue };
            let stream = &mut self.streams[watcher.stream];
            let (next, after) = (from.max(self.cursor + 1), stream.mark());
            watcher.place = Place::Lagging { next, after };
            stream.lagging.push_back(key);
            stream.wake();
            self.signal.lagging.fetch_add(1, Ordering::Relaxed);
        }
        self.index.clear();
        self.listen();
    }

    /// Gives a watcher that has everything before `next` its place.
    pub(super) fn place(&mut self, key: usize, next: i64) {
        if self.index.is_empty() {
            // Order matters: what is published after this look at the ring rings the bell.
            self.signal.listening.store(true, Ordering::SeqCst);
            self.cursor = self.hub.ring().last();
        }
        let watcher = &mut self.watchers[key];
        let stream = &mut self.streams[watcher.stream];
        if next > self.cursor {
            watcher.place = Place::Synced { from: next };
            self.index.insert(&watcher.spec.span, key);
        } else {
            watcher.place = Place::Lagging { next, after: stream.mark() };
            stream.lagging.push_back(key);
            stream.wake();
            self.signal.lagging.fetch_add(1, Ordering::Relaxed);
        }
        self.listen();
    }

    /// Forgets a watcher. What is queued for it stays queued.
    pub(super) fn remove_watcher(&mut self, key: usize) -> Watcher {
        let watcher = self.watchers.remove(key);
        self.signal.watchers.fetch_sub(1, Ordering::Relaxed);
        match watcher.place {
            Place::Synced { .. } => self.index.remove(&watcher.spec.span, key),
            Place::Lagging { .. } => {
                self.streams[watcher.stream].lagging.retain(|other| *other != key);
                self.signal.lagging.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.streams[watcher.stream].watchers.remove(&watcher.id);
        self.listen();
        watcher
    }

    /// Forgets a stream with its watchers.
    pub(super) fn remove_stream(&mut self, stream: usize) {
        // All at once: to look for each of them among the others takes the square of their number.
        self.streams[stream].lagging.clear();
        for key in self.streams[stream].watchers.values().copied().collect::<Vec<_>>() {
            self.remove_watcher(key);
        }
        self.held -= self.streams.remove(stream).held();
        self.signal.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// What was handed out to a stream's connection is on its way, or it would not ask for more.
    pub(super) fn sent(&mut self, stream: usize) {
        self.held -= self.streams[stream].sent();
    }

    fn listen(&self) {
        self.signal.listening.store(!self.index.is_empty(), Ordering::SeqCst);
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.streams.iter_mut().for_each(|(_, stream)| stream.wake());
    }
}
