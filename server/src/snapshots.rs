//! Snapshot files of this member: writing, finding, installing.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use store::Fatal;
use store::datadir::DataDir;
use store::mvcc::{Store, StoreOptions};

use crate::raft::Written;

/// A snapshot file being read from its beginning.
pub struct SnapshotReader {
    pub file: BufReader<File>,
    pub bytes: u64,
}

/// The snapshot folder of a data directory.
pub struct Snapshots {
    data_dir: Arc<DataDir>,
    options: StoreOptions,
    newest: Mutex<Option<Written>>,
    /// One at a time: the engine and the card have better things to do.
    writing: Mutex<()>,
}

impl Snapshots {
    /// `newest` is what boot found and verified.
    pub fn new(data_dir: Arc<DataDir>, options: StoreOptions, newest: Option<Written>) -> Self {
        Self { data_dir, options, newest: Mutex::new(newest), writing: Mutex::default() }
    }

    pub fn newest(&self) -> Option<Written> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes, verifies and publishes a snapshot of the store as it is now; keeps the newest two.
    pub fn write(&self, store: &Arc<Store>) -> Result<Written, Fatal> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let source = store.snapshot_source();
        let written = store::snapshot::save(&source, &self.data_dir.snap(), &mut |_| ())?;
        let written = Written {
            path: written,
            applied: source.applied(),
            membership: source.membership().cloned(),
        };
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(written.clone());
        Ok(written)
    }

    /// Replaces this member's state by that of a received, verified file.
    pub fn install(&self, path: &Path) -> Result<Arc<Store>, Fatal> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        store::boot::install(&self.data_dir, path, &self.options)
    }

    /// A file of the store as it is now, open for reading: the newest one if nothing changed
    /// since, else a new one.
    pub fn open_current(&self, store: &Arc<Store>) -> Result<SnapshotReader, Fatal> {
        let written = match self.newest().filter(|newest| newest.applied == store.applied()) {
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
}
