//! Consensus: the only folder that knows openraft.
//!
//! ```text
//!  gRPC runtimes          raft thread (one current_thread runtime)          kvd-log
//!  replica.rs  --turn-->  core.rs  client_write, read index
//!                         log.rs      append -------------------------->  write, sync
//!                         machine.rs  apply, publish, answer  <-- committed --'
//!  waiters    <--group--  outboxes
//!
//!  other members  <-- network.rs, transfer.rs, forward.rs, reads.rs over links.rs
//!  other members  --> door.rs, service.rs
//! ```
//! - openraft decides; the log keeps; the machine applies. Disk and wire bytes are ours
//!   ([`types`]), so an upgrade of openraft cannot change them.
//! - The log is the truth and the engine a cache of it, so the log is purged only below a
//!   verified snapshot file.
//! - Any error of storage ends the process. openraft does not heal itself, a restart does.
//! - Reads confirm leadership with a round shared by all that wait (ReadIndex), never by a lease.

mod campaign;
mod change;
mod contact;
mod core;
mod corruption;
mod door;
mod forward;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod leases;
mod links;
mod log;
mod machine;
mod network;
mod pace;
mod reads;
mod rules;
mod service;
#[cfg(test)]
mod tests;
mod transfer;
pub mod types;
mod wire;

pub use self::change::{Change, ChangeError};
pub use self::core::{Start, start};
pub use self::corruption::Checks;
pub use self::forward::Forwarded;
pub use self::links::Me;
pub use self::log::Log;
pub use self::machine::{Machine, Room, Written};

/// What openraft's lines in the log come from.
pub const LOG_TARGET: &str = "openraft";
