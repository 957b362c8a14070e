//! Snapshot files of this member: writing, finding, installing.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use store::boot::{self, Places};
use store::mvcc::Store;
use store::snapshot::{self, Checksum, Snapshot};
use store::{Fatal, LogId};

use crate::raft::Written;

/// The snapshot folder of a data directory.
pub struct Snapshots {
    places: Places,
    options: boot::Options,
    state: Mutex<State>,
    /// One at a time: the engine and the card have better things to do.
    writing: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Newest first.
    files: Vec<Written>,
    /// The log is not needed up to here.
    purgeable: Option<LogId>,
    /// Written, and not yet told to consensus.
    prepared: Option<Written>,
}

/// A snapshot file being read from its beginning.
pub struct SnapshotReader {
    pub file: BufReader<File>,
    pub bytes: u64,
}

impl Snapshots {
    /// Takes up the files that are there. Their contents were verified when they were written and
    /// are again when they are used.
    pub fn open(places: Places, options: boot::Options) -> Result<Self, Fatal> {
        let mut state = State::default();
        for (_, path) in snapshot::list(&places.snap)? {
            // A damaged one was moved aside or will be, when it is needed.
            let Ok(found) = Snapshot::open(&path, Checksum::Skip) else { continue };
            let (applied, membership) = (found.state().applied, found.state().membership.clone());
            state.files.push(Written { path, applied, membership });
        }
        Ok(Self { places, options, state: Mutex::new(state), writing: Mutex::default() })
    }

    /// The newest one that holds nothing beyond `applied`.
    ///
    /// A member that was killed may have a newer one than its engine. The log leads there as well:
    /// replaying it needs neither a sound file nor a new engine, so the file stays out of it.
    pub fn newest(&self, applied: LogId) -> Option<Written> {
        let state = self.lock();
        state.files.iter().find(|file| file.applied.index <= applied.index).cloned()
    }

    /// Up to where snapshot files make the log dispensable.
    pub fn purgeable(&self) -> Option<LogId> {
        self.lock().purgeable
    }

    /// What [`Self::prepare`] wrote last, or else a file written now.
    pub fn build(&self, store: &Arc<Store>) -> Result<Written, Fatal> {
        let prepared = self.lock().prepared.take();
        prepared.map_or_else(|| self.write(store), Ok)
    }

    /// Writes a file ahead of consensus, to which a failure would be the end. False when there is
    /// no room: `go_on`, asked now and then, says so, or the disk itself.
    pub fn prepare(&self, store: &Arc<Store>, go_on: &dyn Fn() -> bool) -> Result<bool, Fatal> {
        let written = match self.write_while(store, go_on) {
            Err(Fatal::Io { source, .. }) if is_out_of_space(&source) => return Ok(false),
            written => written?,
        };
        let has_room = written.is_some();
        self.lock().prepared = written;
        Ok(has_room)
    }

    /// Writes, verifies and publishes a snapshot of the store as it is now; keeps the newest two.
    fn write(&self, store: &Arc<Store>) -> Result<Written, Fatal> {
        let written = self.write_while(store, &|| true)?;
        Ok(written.expect("nobody asked to give up"))
    }

    fn write_while(
        &self,
        store: &Arc<Store>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Written>, Fatal> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let source = store.snapshot_source();
        let (applied, membership) = (source.meta.applied, source.meta.membership.clone());
        let path = self.places.snap.join(snapshot::file_name(applied));
        let saved = snapshot::save(&source, &path, &mut |_| match go_on() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })?;
        let Some(saved) = saved else { return Ok(None) };
        tracing::info!(index = applied.index, bytes = saved.bytes, "snapshot file written");
        let written = Written { path, applied, membership };
        let purgeable = snapshot::prune(&self.places.snap)?;
        *self.lock() = State { files: vec![written.clone()], purgeable, prepared: None };
        Ok(Some(written))
    }

    /// Where a file from another member is received.
    pub fn incoming(&self, from: u64, number: u64) -> PathBuf {
        self.places.snap.join(snapshot::unfinished_name(&format!("from-{from:x}-{number}")))
    }

    /// Verifies a received file and gives it its name.
    pub fn accept(&self, path: &Path) -> Result<Written, Fatal> {
        let accepted = Snapshot::open(path, Checksum::Verify).and_then(|received| {
            let (applied, membership) =
                (received.state().applied, received.state().membership.clone());
            let named = self.places.snap.join(snapshot::file_name(applied));
            std::fs::rename(path, &named).map_err(|error| Fatal::io("rename", path, error))?;
            let synced = File::open(&self.places.snap).and_then(|dir| dir.sync_all());
            synced.map_err(|error| Fatal::io("sync", &self.places.snap, error))?;
            Ok(Written { path: named, applied, membership })
        });
        if accepted.is_err() {
            // What stays is removed by the next start.
            let _ = std::fs::remove_file(path);
        }
        accepted
    }

    /// Replaces this member's state by that of an accepted file.
    pub fn install(&self, path: &Path) -> Result<Arc<Store>, Fatal> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let received = Snapshot::open(path, Checksum::Skip)?;
        let (applied, membership) = (received.state().applied, received.state().membership.clone());
        let store = boot::install(&self.places, &received, &self.options)?;
        let written = Written { path: path.to_owned(), applied, membership };
        let purgeable = snapshot::prune(&self.places.snap)?;
        *self.lock() = State { files: vec![written], purgeable, prepared: None };
        tracing::info!(index = applied.index, "snapshot installed");
        Ok(store)
    }

    /// A file of the store as it is now, open for reading: the newest one if nothing changed
    /// since, else a new one.
    pub fn open_current(&self, store: &Arc<Store>) -> Result<SnapshotReader, Fatal> {
        let applied = store.applied();
        let written = match self.newest(applied).filter(|newest| newest.applied == applied) {
            Some(newest) => newest,
            None => self.write(store)?,
        };
        let open = |path: &Path| {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            Ok(SnapshotReader { file: BufReader::with_capacity(1 << 18, file), bytes })
        };
        open(&written.path).map_err(|error| Fatal::io("open", &written.path, error))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_out_of_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
