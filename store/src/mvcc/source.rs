//! The store as it is at one moment, held still for writing a snapshot file.

use std::sync::Arc;

use super::auth::Auth;
use super::leases::Lease;
use super::meta::Meta;
use super::pins::Pin;
use super::scan::{Scan, StoredRow};
use super::store::Store;
use crate::Fatal;

/// A consistent view of everything. Compactions wait while it lives.
pub struct SnapshotSource {
    /// Everything but the rows, the leases, users and roles.
    pub meta: Meta,
    pub leases: Vec<Lease>,
    pub auth: Arc<Auth>,
    store: Arc<Store>,
    _pin: Pin,
}

impl Store {
    pub fn snapshot_source(self: &Arc<Self>) -> SnapshotSource {
        let _between_commands = self.cursor.lock().expect("a panic ends the process");
        let state = self.state();
        let pin = self.pin(state.compacted);
        // The rows are those that the compaction leaves, even if it is not complete here.
        let meta = Meta { finished: state.compacted, ..state.meta() };
        let leases = state.leases.list();
        SnapshotSource { meta, leases, auth: self.auth(), store: self.clone(), _pin: pin }
    }
}

impl SnapshotSource {
    /// The rows in order of revision, read in bounded steps.
    pub fn rows(&self) -> Rows<'_> {
        let scan = Scan::new(self.meta.revision, self.meta.compacted);
        Rows { store: &self.store, scan, step: Vec::new().into_iter() }
    }
}

/// Ends after the first error.
pub struct Rows<'a> {
    store: &'a Store,
    scan: Scan,
    step: std::vec::IntoIter<StoredRow>,
}

impl Iterator for Rows<'_> {
    type Item = Result<StoredRow, Fatal>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.step.next() {
                return Some(Ok(row));
            }
            match self.scan.step(self.store, &|_, _, _| true) {
                Ok(rows) => self.step = rows?.into_iter(),
                Err(fatal) => {
                    self.scan = Scan::new(-1, -1);
                    return Some(Err(fatal));
                }
            }
        }
    }
}
