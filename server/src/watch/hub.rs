//! The meeting point of the apply thread and the lanes: the ring, and a bell for each lane.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use store::Fatal;
use store::mvcc::RevisionEvents;
use tokio::sync::Notify;

use super::lane::Lane;
use super::ring::{Ring, run_bytes};
use super::source::HistorySource;

/// Bounds of what watching may use. The defaults suit a small machine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Recent revisions kept in memory, so that following them never reads the store.
    pub ring_bytes: usize,
    /// Responses waiting on one stream, as in etcd. A full queue makes watchers lag.
    pub queue_responses: usize,
    /// Bytes waiting on one stream. One response may pass it.
    pub queue_bytes: usize,
    /// Revisions in one response of a watcher that catches up, as in etcd.
    pub batch_revisions: usize,
    /// Bytes in one response of a watcher that catches up. One revision may pass it. With what
    /// is allowed in requests it stays below the 4 MiB that most clients accept.
    pub batch_bytes: usize,
    /// Bytes waiting on all streams of a lane. Beyond it the lane is crowded: the two bounds above
    /// are replaced by `crowded_bytes`, so that many slow readers do not hold much more than one.
    pub lane_bytes: usize,
    pub crowded_bytes: usize,
    /// Revisions read in one step of catching up, between which other tasks get their turn.
    pub step_revisions: usize,
    /// Bytes read in one step of catching up. One revision may pass it.
    pub step_bytes: usize,
    /// How often a quiet watcher that asked for it hears the revision; a tenth is added at random.
    pub progress_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            queue_responses: 128,
            queue_bytes: 256 << 10,
            batch_revisions: 1000,
            batch_bytes: 5 << 19,
            lane_bytes: 32 << 20,
            crowded_bytes: 32 << 10,
            step_revisions: 250,
            step_bytes: 128 << 10,
            progress_interval: Duration::from_secs(600),
        }
    }
}

impl Limits {
    /// A bound of one stream, when its lane holds `held` bytes.
    pub(super) fn within_lane(&self, bytes_max: usize, held: usize) -> usize {
        if held < self.lane_bytes { bytes_max } else { bytes_max.min(self.crowded_bytes) }
    }
}

/// How many streams and watchers there are, and what they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub streams: usize,
    pub watchers: usize,
    /// Watchers that are not up to date.
    pub lagging: usize,
    /// Events sent since the start.
    pub events: usize,
}

/// Takes published revisions from the apply thread and tells the lanes.
pub struct Hub {
    pub(super) source: Arc<dyn HistorySource>,
    pub(super) limits: Limits,
    ring: Mutex<Ring>,
    signals: RwLock<Vec<Arc<Signal>>>,
    closed: AtomicBool,
    on_fatal: Box<dyn Fn(Fatal) + Send + Sync>,
}

/// What other threads touch of a lane.
#[derive(Default)]
pub(super) struct Signal {
    /// Rung when there is a new run, and when the hub closes.
    pub(super) bell: Notify,
    /// False while no watcher of the lane is synced, so that nobody is woken for nothing.
    pub(super) listening: AtomicBool,
    pub(super) streams: AtomicUsize,
    pub(super) watchers: AtomicUsize,
    pub(super) lagging: AtomicUsize,
    pub(super) events: AtomicUsize,
}

impl Hub {
    /// A hub for the revisions after the source's newest one. `on_fatal` is told when the source
    /// fails; all streams end then.
    pub fn new(
        source: Arc<dyn HistorySource>,
        limits: Limits,
        on_fatal: Box<dyn Fn(Fatal) + Send + Sync>,
    ) -> Arc<Self> {
        let ring = Mutex::new(Ring::new(source.revision(), limits.ring_bytes));
        let signals = RwLock::default();
        Arc::new(Self { source, limits, ring, signals, closed: AtomicBool::new(false), on_fatal })
    }

    /// Makes a run of applied revisions known. Ascending, each once; called by the apply thread
    /// when the store shows them and before their writers are answered.
    ///
    /// The runtimes that have synced watchers are woken once each, and do the rest.
    pub fn publish(&self, run: Vec<Arc<RevisionEvents>>) {
        if run.is_empty() {
            return;
        }
        let bytes = run_bytes(&run);
        let displaced = self.ring().push(bytes, Arc::new(run));
        self.ring_bells();
        drop(displaced);
    }

    /// The source was replaced by one that is ahead: a snapshot was installed. Watchers read from
    /// it what they missed.
    pub fn jump(&self, revision: i64) {
        let displaced = self.ring().restart(revision);
        self.ring_bells();
        drop(displaced);
    }

    fn ring_bells(&self) {
        for signal in self.signals.read().expect("no panic under the lock").iter() {
            if signal.listening.load(Ordering::SeqCst) {
                signal.bell.notify_one();
            }
        }
    }

    /// A lane for the streams of one runtime, which must drive it with [`Lane::run`].
    pub fn lane(self: &Arc<Self>) -> Arc<Lane> {
        let signal = Arc::new(Signal::default());
        self.signals.write().expect("no panic under the lock").push(signal.clone());
        Arc::new(Lane::new(self.clone(), signal))
    }

    /// Ends all streams, and the lanes' tasks.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for signal in self.signals.read().expect("no panic under the lock").iter() {
            signal.bell.notify_one();
        }
    }

    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for signal in self.signals.read().expect("no panic under the lock").iter() {
            stats.streams += signal.streams.load(Ordering::Relaxed);
            stats.watchers += signal.watchers.load(Ordering::Relaxed);
            stats.lagging += signal.lagging.load(Ordering::Relaxed);
            stats.events += signal.events.load(Ordering::Relaxed);
        }
        stats
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The source can no longer be trusted: what watchers would see next might be wrong.
    pub(super) fn fail(&self, fatal: Fatal) {
        self.close();
        (self.on_fatal)(fatal);
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no panic under the lock")
    }
}
