//! Load: groups of clients that call, on one thread that waits for sockets.
//!
//! A *client* has at most one call in flight. A *group* is some clients with one workload, spread
//! over connections of their own; several groups run side by side (writers beside watchers, reads
//! beside puts). A group is paced in one of three ways:
//!
//! - **closed loop**: a client calls again as soon as it is answered. Finds the throughput.
//! - **fixed rate** (open loop): calls fall due at a fixed rate whether or not earlier ones were
//!   answered, and a latency counts from when the call was *due*. A server that stalls for a second
//!   is charged for every call that should have started in it (no coordinated omission).
//! - **once**: each client calls once and the stream stays open. Watchers.
//!
//! ```text
//! epoll -> Connection::receive -> Group (Sink): tally, client is idle again
//!            Connection::flush <- Group::issue: Workload::request, Connection::call
//! ```

mod engine;
mod group;
mod tally;

pub(crate) use engine::{Engine, Limit};
pub(crate) use group::{GroupSpec, Pace};
pub(crate) use tally::{Latencies, Tally};
