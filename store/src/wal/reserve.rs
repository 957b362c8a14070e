//! The next segment, made before it is needed on a thread of its own, so that a full disk is met
//! while there is still room in the current one; and the files waiting to be used again.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::disk::Disk;

use super::RECYCLED_MAX;
use super::segment::{Header, Segment, prepare, recycled_name};

pub(super) struct Reserve {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    salt: u64,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    spare: Option<Arc<Segment>>,
    /// The sequence the next spare must have.
    sequence: u32,
    recycled: Vec<PathBuf>,
    /// Segments no record in which is needed any more.
    retired: VecDeque<Arc<Segment>>,
    /// Why the last attempt failed. Not tried again before something changes.
    failure: Option<String>,
    /// The writer has the next segment and has not yet closed the one before: there must be no
    /// more than one unused segment behind one that is not closed.
    held: bool,
    /// Somebody is making a segment outside of the lock.
    busy: bool,
    stop: bool,
}

impl Reserve {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        salt: u64,
        segment_bytes: u64,
        sequence: u32,
        spare: Option<Arc<Segment>>,
        recycled: Vec<PathBuf>,
    ) -> Self {
        let state = State {
            spare,
            sequence,
            recycled,
            retired: VecDeque::new(),
            failure: None,
            held: false,
            busy: false,
            stop: false,
        };
        Self { disk, dir, salt, segment_bytes, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    pub(super) fn ready(&self) -> bool {
        self.lock().spare.is_some()
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Tries again after a failure.
    pub(super) fn retry(&self) {
        if self.lock().failure.take().is_some() {
            self.changed.notify_all();
        }
    }

    /// Gives up segments; their files are recycled or removed in the background.
    pub(super) fn retire(&self, segments: impl IntoIterator<Item = Arc<Segment>>) {
        self.lock().retired.extend(segments);
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    /// Blocks until nothing is left to do, or to be done in vain.
    pub(super) fn wait_idle(&self) {
        let idle = |state: &mut State| {
            let spare = state.spare.is_some() || state.failure.is_some();
            !(state.stop || (spare && state.retired.is_empty() && !state.busy))
        };
        drop(self.changed.wait_while(self.lock(), idle).expect("the reserve never panics locked"));
    }

    /// The next segment, of at least `bytes_min`; waits for it or makes it if there is none.
    /// Also says whether its file was used before.
    pub(super) fn take(&self, bytes_min: u64) -> io::Result<Arc<Segment>> {
        let mut state = self.claim();
        let sequence = state.sequence;
        state.held = true;
        let spare = state.spare.take();
        let recycled = state.recycled.pop();
        drop(state);
        let (result, recycled) = match spare {
            Some(spare) if spare.bytes >= bytes_min => (Ok(spare), recycled),
            None if bytes_min <= self.segment_bytes => {
                (self.make(sequence, self.segment_bytes, recycled.as_ref()).map(Arc::new), None)
            }
            // A record too large for any ordinary segment gets one of its own. Its file takes
            // the name of the spare, if there is one; preparing replaces it.
            _ => (self.make(sequence, bytes_min, None).map(Arc::new), recycled),
        };
        let mut state = self.lock();
        state.busy = false;
        state.recycled.extend(recycled);
        self.changed.notify_all();
        result
    }

    /// The segment taken is in use: the one after it may be made.
    pub(super) fn taken(&self) {
        let mut state = self.lock();
        state.held = false;
        state.sequence += 1;
        state.failure = None;
        self.changed.notify_all();
    }

    /// The thread `kvd-log-prep`.
    pub(super) fn run(&self) {
        loop {
            let state = self.claim();
            if state.stop {
                self.release(state, |_| {});
                return;
            }
            if !state.retired.is_empty() {
                self.recycle(state);
            } else if state.spare.is_none() && state.failure.is_none() && !state.held {
                self.refill(state);
            } else {
                let mut state = state;
                state.busy = false;
                self.changed.notify_all();
                let idle = |state: &mut State| {
                    let content = state.spare.is_some() || state.failure.is_some() || state.held;
                    !state.stop && state.retired.is_empty() && content
                };
                drop(
                    self.changed.wait_while(state, idle).expect("the reserve never panics locked"),
                );
            }
        }
    }

    fn refill(&self, mut state: MutexGuard<'_, State>) {
        let sequence = state.sequence;
        let recycled = state.recycled.pop();
        drop(state);
        let result = self.make(sequence, self.segment_bytes, recycled.as_ref());
        self.release(self.lock(), |state| match result {
            Ok(segment) => state.spare = Some(Arc::new(segment)),
            Err(error) => {
                tracing::warn!(%error, "cannot prepare the next log segment");
                state.failure = Some(error.to_string());
            }
        });
    }

    /// Oldest first, so that what remains is always a run. A file that a reader still holds is
    /// removed: it must not be overwritten under the reader.
    fn recycle(&self, mut state: MutexGuard<'_, State>) {
        let retired = std::mem::take(&mut state.retired);
        let mut kept = state.recycled.len();
        drop(state);
        let mut recycled = Vec::new();
        let mut result = Ok(());
        for segment in retired {
            let (path, sequence, bytes) = (segment.path.clone(), segment.sequence(), segment.bytes);
            let unused = Arc::into_inner(segment).is_some();
            result = if unused && bytes == self.segment_bytes && kept < RECYCLED_MAX {
                kept += 1;
                let to = self.dir.join(recycled_name(sequence));
                self.disk.rename(&path, &to).map(|()| recycled.push(to))
            } else {
                self.disk.remove(&path)
            };
            if result.is_err() {
                break;
            }
        }
        // The names must be durable before the files get a new header.
        let result = result.and_then(|()| self.disk.sync_dir(&self.dir));
        self.release(self.lock(), |state| match result {
            Ok(()) => {
                state.recycled.extend(recycled);
                // There may be room now.
                state.failure = None;
            }
            Err(error) => {
                // Left behind until the next start; the log itself is not touched.
                tracing::warn!(%error, "cannot remove old log segments");
            }
        });
    }

    fn make(&self, sequence: u32, bytes: u64, recycled: Option<&PathBuf>) -> io::Result<Segment> {
        let header = Header { salt: self.salt, sequence, bytes };
        prepare(&*self.disk, &self.dir, &header, recycled.map(PathBuf::as_path))
    }

    /// Waits for whoever is busy and becomes it.
    fn claim(&self) -> MutexGuard<'_, State> {
        let busy = |state: &mut State| state.busy;
        let state = self.changed.wait_while(self.lock(), busy);
        let mut state = state.expect("the reserve never panics locked");
        state.busy = true;
        state
    }

    fn release(&self, mut state: MutexGuard<'_, State>, change: impl FnOnce(&mut State)) {
        change(&mut state);
        state.busy = false;
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the reserve never panics locked")
    }
}
