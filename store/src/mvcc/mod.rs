//! The key space and its history: keys, their versions, and the rules that change them.
//!
//! Each command that changes keys gets the next main revision; each change in it a sub-revision.
//! A change writes a *row*, which is the encoded key-value pair of that version (for a deletion a
//! tombstone), and adds a *record* of it to the key's slot in the index.
//!
//! ```text
//!  apply ──► index (RAM)     key -> records: revision, kind, length of the value
//!        └─► recent (RAM)    rows since the last checkpoint, as events; watchers share them
//!                │ checkpoint: survivors only
//!                ▼
//!            engine (disk)   rows below; found through a bounded cache of hot rows
//! ```
//! # What holds
//! - One thread applies. Its changes are above the revision readers look at until a command is
//!   complete, so the lock is held for single steps only, by writers and by readers.
//! - Rows never change. A row is in `recent`, in the set a checkpoint is writing, or in the engine.
//! - Compaction raises a watermark when it is applied and removes rows later, oldest first, never
//!   below a pinned revision. A row leaves the index first; what the index has forgotten is gone
//!   for every reader, wherever its bytes still are.
//! - Everything a command does follows from the state and the command alone.

mod chunks;
mod generations;
mod leaf;

mod index;
mod recent;
mod rows;

mod alarms;
mod auth;
mod cache;
mod downgrade;
mod leases;
mod members;
mod meta;
mod pins;
mod state;

mod store;

mod apply;
pub mod check;
mod compare;
mod txn;
mod write;

mod range;
mod read_txn;
mod stream;

mod hash;
mod history;
mod scan;
mod source;

mod backlog;
mod checkpoint;
mod compact;
mod open;

#[cfg(test)]
mod tests;

pub use alarms::Alarms;
pub use apply::{Applied, Input, Response};
pub use auth::{Auth, Need, ROOT};
pub use hash::{HashKv, HashKvRead, HashRead};
pub use history::{History, HistoryLimits};
pub use leases::Lease;
pub use meta::{Counters, Member, Meta, Tables};
pub use open::Loader;
pub use range::RangeRead;
pub use read_txn::TxnRead;
pub use recent::{ChangeEvent, RevisionEvents};
pub use scan::StoredRow;
pub use source::{Rows, SnapshotSource};
pub use store::{Sizes, Step, Store, StoreOptions};
pub use stream::RangeStream;

/// The end of a range that is not a single key: `\0` stands for no end.
fn span_end(range_end: &[u8]) -> Option<&[u8]> {
    (range_end != [0]).then_some(range_end)
}
