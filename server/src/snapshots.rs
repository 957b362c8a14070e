//! Snapshot files of this member: writing, finding, installing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use store::Fatal;
use store::datadir::DataDir;
use store::mvcc::{Store, StoreOptions};

use crate::raft::Written;

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

    pub fn dir(&self) -> PathBuf {
        self.data_dir.snap()
    }
}
