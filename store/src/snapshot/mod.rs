//! Snapshot files: the whole applied state in one file, in the format of etcd's own snapshots.
//!
//! A file is a bbolt image with its SHA-256 behind it ([`bolt`]), and holds the buckets that etcd
//! keeps ([`buckets`]). So `etcdctl snapshot status` knows ours, a real etcd can be restored from
//! one, and we load what etcd saved. Together with the log behind it, the newest file is the truth
//! about this member's state; the engine is only a cache of both.
//!
//! # Invariants
//! - A file under its final name is complete and was read back: it is written beside it, synced,
//!   compared with what was sent, and only then renamed.
//! - Nothing is held in memory but the small tables: files are written and read in one pass.
//! - Reading believes nothing. Damage anywhere is [`crate::Fatal::Damaged`], never a panic.

mod bolt;
mod buckets;
mod files;
mod load;
mod read;
mod save;
mod state;
mod status;

#[cfg(test)]
mod tests;

pub use files::{file_name, list, prune, remove_unfinished, unfinished_name};
pub use load::load;
pub use read::{Changes, Checksum, Snapshot};
pub use save::{Saved, Source, save};
pub use state::{Change, State};
pub use status::Status;
