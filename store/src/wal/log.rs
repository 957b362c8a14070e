//! The handle of the log: queues what is to be written, answers reads, starts and joins the
//! threads.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use crate::disk::Disk;
use crate::{Fatal, LogId};

use super::cache::Cache;
use super::read;
use super::recover::{Recovery, recover};
use super::reserve::Reserve;
use super::sector::Frames;
use super::segment::SIZE_UNIT;
use super::shared::{Op, Shared, State};
use super::stats::WalStats;
use super::writer::{Group, Writer};
pub use sizes::Room;

mod sizes;

/// Called once, on `kvd-log` unless the log has already ended: with `Ok` when what it was given
/// for, and everything before, is durable.
pub type Completion = Box<dyn FnOnce(io::Result<()>) + Send>;

pub struct WalOptions {
    pub segment_bytes: u64,
    /// Entries kept in memory beyond those not durable yet.
    pub cache_bytes: usize,
    /// Only for measurements and for data that may be lost.
    pub fsync: bool,
    /// Called once, on `kvd-log`, before any completion hears of it.
    pub on_fatal: Box<dyn Fn(Fatal) + Send + Sync>,
}

impl WalOptions {
    pub fn new(on_fatal: impl Fn(Fatal) + Send + Sync + 'static) -> Self {
        Self {
            segment_bytes: 16 << 20,
            cache_bytes: 8 << 20,
            fsync: true,
            on_fatal: Box::new(on_fatal),
        }
    }
}

/// What was found when the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub vote: Option<Bytes>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    /// Bytes of an unfinished write that were cut off the end.
    pub cut_bytes: u64,
    /// There was no log. A member that had one before must not go on under its old id.
    pub created: bool,
}

/// The log. Clones are handles to the same one; it closes when the last is dropped.
#[derive(Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    segment_bytes: u64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Wal {
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
    ) -> Result<(Self, Recovered), Fatal> {
        let segment_bytes = options.segment_bytes.next_multiple_of(SIZE_UNIT).max(SIZE_UNIT);
        let recovery = recover(&*disk, dir, segment_bytes)?;
        let recovered = summary(&recovery);
        let writer = assemble(disk, dir, segment_bytes, options, recovery);
        let shared = Arc::clone(&writer.shared);
        if writer.frames.position() > 0 {
            // Else the segments before are the only ones that know the state.
            shared.drop_purged(writer.state.purged);
        }
        let preparer = Arc::clone(&shared);
        let threads = vec![
            spawn("kvd-log-prep", dir, move || preparer.reserve.run())?,
            spawn("kvd-log", dir, move || writer.run())?,
        ];
        let inner = Inner { shared, segment_bytes, threads: Mutex::new(threads) };
        Ok((Self { inner: Arc::new(inner) }, recovered))
    }

    /// Appends entries, which must follow the last without a hole. They can be read on return.
    pub fn append(&self, entries: Vec<(LogId, Bytes)>, done: Completion) {
        let mut state = self.lock();
        if !state.accepts() {
            return refuse(state, done);
        }
        for (id, payload) in &entries {
            let last = state.last;
            assert!(
                id.index == last.index + 1 && id.term >= last.term,
                "entry {id} does not follow {last}"
            );
            state.last = *id;
            state.terms.push(*id);
            state.cache.push(*id, payload.clone());
        }
        self.enqueue(state, Op::Entries(entries, done));
    }

    pub fn save_vote(&self, vote: Bytes, done: Completion) {
        let state = self.lock();
        if !state.accepts() {
            return refuse(state, done);
        }
        self.enqueue(state, Op::Vote(vote, done));
    }

    /// Rides with the next write; never causes one of its own.
    pub fn save_committed(&self, id: LogId) {
        self.lock().committed = Some(id);
    }

    /// Removes the entries after `index`; those that are purged stay purged.
    pub fn truncate_after(&self, index: u64) {
        let mut state = self.lock();
        let index = index.max(state.purged.index);
        if index >= state.last.index || !state.accepts() {
            return;
        }
        let id = state.log_id(index).expect("the log knows every entry from the purged one on");
        state.last = id;
        state.cache.truncate_after(index);
        state.terms.truncate_after(index);
        state.points.truncate_after(index);
        state.flushed = state.flushed.min(index);
        state.flushed_max = state.flushed_max.min(index);
        self.enqueue(state, Op::Truncate(id));
    }

    /// Removes the entries up to `upto`, which may be beyond the last: the log then goes on after
    /// it. Files go in the background, once the purge itself is durable.
    pub fn purge(&self, upto: LogId) {
        let mut state = self.lock();
        if upto.index <= state.purged.index || !state.accepts() {
            return;
        }
        state.purged = upto;
        state.cache.purge(upto.index);
        if upto.index >= state.last.index {
            state.last = upto;
            state.terms.clear();
        } else {
            state.terms.purge(upto.index);
        }
        self.enqueue(state, Op::Purge(upto));
    }

    /// Entries from `first` to before `end`, as many as there are and fit into `max_bytes`, but
    /// at least one. What is purged is an error.
    pub fn read(
        &self,
        first: u64,
        end: u64,
        max_bytes: usize,
    ) -> Result<Vec<(LogId, Bytes)>, Fatal> {
        read::read(&self.inner.shared, first, end, max_bytes)
    }

    /// Never touches the disk. The purged entry's id is still known, those before are not.
    pub fn log_id(&self, index: u64) -> Result<Option<LogId>, Fatal> {
        Ok(self.lock().log_id(index).filter(|id| id.index > 0))
    }

    pub fn purged(&self) -> Option<LogId> {
        some(self.lock().purged)
    }

    /// The last entry; the purged one if there is none after it.
    pub fn last(&self) -> Option<LogId> {
        some(self.lock().last)
    }

    /// Entries up to this one are durable.
    pub fn flushed_index(&self) -> u64 {
        self.lock().flushed
    }

    /// Blocks until entries up to `index` are durable; false if they never will be.
    pub fn wait_flushed(&self, index: u64) -> bool {
        let mut state = self.lock();
        state.flush_waiters += 1;
        let condvar = &self.inner.shared.flushed;
        while state.flushed < index && !state.ended() {
            state = condvar.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.flush_waiters -= 1;
        state.flushed >= index
    }

    /// Tells this log from every other that was ever made.
    pub fn id(&self) -> u64 {
        self.inner.shared.reserve.salt()
    }

    /// Tries again to prepare the next segment, if that has failed: for when space may have
    /// been freed.
    pub fn retry_reserve(&self) {
        self.inner.shared.reserve.retry();
    }

    /// Blocks until the next segment is prepared and old ones are gone, or that has failed.
    pub fn wait_reserve(&self) -> bool {
        self.inner.shared.reserve.wait_idle();
        self.inner.shared.reserve.ready()
    }

    /// Writes and syncs everything queued and ends the threads. Later calls are refused.
    pub fn close(&self) {
        self.inner.close();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.shared.lock()
    }

    fn enqueue(&self, mut state: std::sync::MutexGuard<'_, State>, op: Op) {
        state.queued_bytes += op.bytes();
        state.queue.push(op);
        let wake = std::mem::take(&mut state.writer_waits);
        drop(state);
        if wake {
            self.inner.shared.work.notify_one();
        }
    }
}

impl Inner {
    fn close(&self) {
        let mut state = self.shared.lock();
        state.closing = true;
        state.writer_waits = false;
        drop(state);
        self.shared.work.notify_one();
        self.shared.reserve.stop();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A completion may hold the last handle: then this is the writer itself.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn accepts(&self) -> bool {
        self.failed.is_none() && !self.closing
    }

    fn log_id(&self, index: u64) -> Option<LogId> {
        if index == self.purged.index {
            return Some(self.purged);
        }
        let known = index > self.purged.index && index <= self.last.index;
        known.then(|| self.terms.get(index).map(|term| LogId { term, index })).flatten()
    }

    /// Nothing becomes durable any more.
    fn ended(&self) -> bool {
        self.failed.is_some() || self.ended
    }
}

fn refuse(state: std::sync::MutexGuard<'_, State>, done: Completion) {
    let error = match &state.failed {
        Some(failed) => failed.to_error(),
        None => io::Error::other("the log is closed"),
    };
    drop(state);
    done(Err(error));
}

fn some(id: LogId) -> Option<LogId> {
    (id.index > 0).then_some(id)
}

fn spawn(
    name: &str,
    dir: &Path,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Fatal> {
    let builder = thread::Builder::new().name(name.into()).stack_size(256 << 10);
    builder.spawn(run).map_err(|error| Fatal::io("start the log's thread for", dir, error))
}

fn summary(recovery: &Recovery) -> Recovered {
    let state = &recovery.replay.state;
    Recovered {
        vote: state.vote.clone().map(Bytes::from),
        committed: some(state.committed),
        purged: some(state.purged),
        last: some(state.last),
        cut_bytes: recovery.cut_bytes,
        created: recovery.created,
    }
}

fn assemble(
    disk: Arc<dyn Disk>,
    dir: &Path,
    segment_bytes: u64,
    options: WalOptions,
    recovery: Recovery,
) -> Writer {
    let segment = Arc::clone(recovery.segments.back().expect("a log has a segment"));
    let replay = recovery.replay;
    let reserve = Reserve::new(
        disk,
        dir.to_owned(),
        recovery.salt,
        segment_bytes,
        segment.sequence() + 1,
        recovery.spare,
        recovery.recycled,
    );
    let state = State {
        queue: Vec::new(),
        queued_bytes: 0,
        committed: None,
        writer_waits: false,
        closing: false,
        ended: false,
        failed: None,
        purged: replay.state.purged,
        last: replay.state.last,
        flushed: replay.state.last.index,
        flushed_max: u64::MAX,
        flush_waiters: 0,
        cache: Cache::new(options.cache_bytes),
        terms: replay.terms,
        points: replay.points,
        segments: recovery.segments,
        position: recovery.position,
        stats: WalStats::default(),
        record_bytes: 0,
    };
    let shared = Shared {
        state: Mutex::new(state),
        work: Condvar::new(),
        flushed: Condvar::new(),
        rewriting: Mutex::new(()),
        reserve,
    };
    Writer {
        shared: Arc::new(shared),
        segment,
        frames: Frames::resume(recovery.position, &recovery.tail),
        state: replay.state,
        chain: replay.chain,
        fsync: options.fsync,
        on_fatal: options.on_fatal,
        group: Group::after(replay.maker, recovery.position),
    }
}
