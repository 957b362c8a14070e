//! What the hub needs of the store. The store implements it, and a model in the tests.

use proto::EncodedKeyValue;
use store::mvcc::{ChangeEvent, History, HistoryLimits};
use store::{Fatal, ReadError, Revision};

use crate::replica::Current;

/// A replica's history of changes.
pub trait HistorySource: Send + Sync + 'static {
    /// The newest revision.
    fn revision(&self) -> i64;
    /// The revision compacted to; -1 if never.
    fn compacted(&self) -> i64;
    /// The changes from revision `from` on whose key `wants` accepts, one step of them. A step
    /// comes further than `from` if there was anything to read. Refused when `from` is below the
    /// compacted revision.
    fn history(
        &self,
        from: i64,
        limits: HistoryLimits,
        wants: &dyn Fn(&[u8]) -> bool,
    ) -> Result<History, ReadError>;
    /// The key-value written at a revision, unless it was compacted away.
    fn row(&self, at: Revision) -> Result<Option<EncodedKeyValue>, Fatal>;
}

impl HistorySource for Current {
    fn revision(&self) -> i64 {
        self.load().revision()
    }

    fn compacted(&self) -> i64 {
        self.load().compacted()
    }

    fn history(
        &self,
        from: i64,
        limits: HistoryLimits,
        wants: &dyn Fn(&[u8]) -> bool,
    ) -> Result<History, ReadError> {
        self.load().history(from, limits, wants)
    }

    fn row(&self, at: Revision) -> Result<Option<EncodedKeyValue>, Fatal> {
        self.load().row(at)
    }
}

/// What an event occupies in memory.
pub(super) fn event_bytes(event: &ChangeEvent) -> usize {
    size_of::<ChangeEvent>() + event.kv.as_bytes().len()
}
