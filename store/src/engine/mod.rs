//! The engine: an ordered map on disk that holds the applied state between checkpoints.
//!
//! # Contract
//! - One thread mutates (`apply`, `delete_many`, `flush`, `maintain`); any number read.
//! - After any crash the contents equal a prefix of the sequence of `apply` and `delete_many`
//!   calls that includes everything before the last successful `flush`.
//! - A scan is not a snapshot: it is only safe over rows that do not change, and ours never do.
//! - An error is fatal: nothing is retried, no destructor is trusted, the process exits. The
//!   directory can be deleted; it is rebuilt from snapshot file and log.

use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;

use bytes::Bytes;

use crate::Fatal;

pub mod memory;
pub mod sled;

mod flushed;
mod integrity;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod damage_tests;

/// Where sled's log lines come from.
pub const LOG_TARGET: &str = "sled";

pub use memory::MemoryEngine;
pub use sled::{SledEngine, SledOptions};

/// Rows to insert or replace together.
#[derive(Debug, Default)]
pub struct WriteBatch {
    pub puts: Vec<(Bytes, Bytes)>,
}

impl WriteBatch {
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.puts.push((key.into(), value.into()));
    }
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineStats {
    /// On disk, allocated; 0 for an engine in memory.
    pub physical_bytes: u64,
    /// Written since the last flush.
    pub dirty_bytes: u64,
}

/// Why an engine does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The files fail their checks. Rebuilding them is the cure.
    #[error("{0}")]
    Damaged(String),
    /// The surroundings refuse: no space, no permission, in use. Rebuilding would meet the same.
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
}

impl From<OpenError> for Fatal {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Damaged(what) => Self::Engine(what),
            OpenError::Io { operation, path, source } => Self::Io { operation, path, source },
        }
    }
}

/// What a row's key and value should have together at most. Rows of values keep to it; key rows
/// do unless a client's key is longer.
pub const ROW_BYTES_MAX: usize = 990;

pub trait Engine: Send + Sync + 'static {
    /// A handle for reading. Cheap; usable while the engine is written, flushed or maintained.
    fn reader(&self) -> Box<dyn Reader>;
    /// Inserts all rows at once. Visible on return, durable after the next `flush`.
    fn apply(&self, batch: WriteBatch) -> Result<(), Fatal>;
    /// Removes rows, absent ones included. Ordered after earlier calls, not atomic, repeatable.
    fn delete_many(&self, keys: &[Bytes]) -> Result<(), Fatal>;
    /// Makes all earlier calls durable.
    fn flush(&self) -> Result<(), Fatal>;
    /// Gives memory and space back. May reopen files; readers wait meanwhile.
    fn maintain(&self) -> Result<(), Fatal>;
    fn stats(&self) -> EngineStats;
}

/// Called with each row of a scan; breaks to end it.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

pub trait Reader: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fatal>;
    /// Visits rows in ascending key order.
    fn scan(&self, range: (Bound<&[u8]>, Bound<&[u8]>), visit: Visit<'_>) -> Result<(), Fatal>;
}

/// Whether no key lies between the two bounds.
fn is_empty_range(range: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    use Bound::{Excluded, Included};
    match range {
        (Included(first), Included(last)) => first > last,
        (Included(first) | Excluded(first), Excluded(end)) => first >= end,
        (Excluded(before), Included(last)) => before >= last,
        _ => false,
    }
}
