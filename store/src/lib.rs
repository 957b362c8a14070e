//! What a replica stores and how it changes: the deterministic, synchronous core of kvd.
//!
//! Nothing here knows the network, the clock, randomness or an async runtime. The log
//! ([`wal`]) and the newest snapshot file ([`snapshot`]) are the truth; the engine ([`engine`])
//! holds a cache of the state they lead to, so it can be deleted and rebuilt at any time.

pub mod disk;
pub mod error;
pub mod revision;

pub mod datadir;
pub mod wal;

pub mod engine;
pub mod snapshot;

pub mod mvcc;

pub mod boot;

pub use error::{Fatal, ReadError, Refusal};
pub use revision::{LogId, Revision};
