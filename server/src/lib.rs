//! kvd: a member of a replicated key-value store that speaks etcd's v3 API.
//!
//! A put, step by step; each step is one function to click into.
//!
//! ```text
//!  1 api/kv.rs          put        check the request, build the command
//!  2 replica.rs         propose    `admission.rs`; everything ready in this turn of the runtime
//!                                  travels to the raft thread as one message
//!  3 raft/core.rs       propose    client_write: openraft merges what is waiting into one append
//!  4 raft/log.rs        append     entries become log records and are queued for kvd-log
//!  5 store wal/         write      one write and one fdatasync for all that is queued
//!  6 raft/machine.rs    apply      the committed run, in order
//!  7 store mvcc/        apply      next revision, index, encoded KeyValue, event
//!  8 watch/             publish    watchers hear of it, never blocking apply
//!  9 replica/answers.rs flush      answers go back, one message per gRPC runtime
//! 10 api/kv.rs          put        header, response
//! ```
//! A linearizable range takes steps 1 and 2 (`read_barrier`), then reads the store where it is.
//! Rows leave memory for the engine in checkpoints (`housekeeper.rs`), which no put waits for.

// The modules are private so that the compiler finds what nothing uses; `pub` in them means the
// crate.
#![allow(unreachable_pub)]

pub mod config;
pub mod limits;
pub mod logging;

mod admission;
mod api;
mod auth;
mod body;
mod bootstrap;
mod budget;
mod compactor;
mod connection;
mod entrances;
mod front;
mod gateway;
mod greeting;
mod housekeeper;
mod lease;
mod listen;
mod member;
mod metered;
mod metrics;
mod pages;
mod poke;
mod publish;
mod quota;
mod raft;
mod received;
mod replica;
mod server;
mod services;
mod slow;
mod snapshots;
mod space;
mod stop;
mod systemd;
mod tls;
mod unsent;
mod watch;

pub use server::run;

/// What the fuzz targets call.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::connection::fuzzing as connection;
    pub use crate::gateway::fuzzing as gateway;
    pub use crate::raft::fuzzing as raft;
}
