//! The black-box harness: real server processes, and everything that talks to them from outside.
//!
//! Nothing here links the store or the server. A test starts processes, sends bytes over gRPC and
//! looks at the answers, so that every check can be pointed at a real etcd as well: `TARGET=etcd`
//! replaces kvd by the etcd that `tests/go/build` made. That is how the expectations are recorded.
//!
//! - [`Node`]: one server process with its data directory, ports and captured log; started,
//!   stopped, killed, paused and started again. Synchronous, usable inside and outside of tokio.
//! - [`Cluster`]: several of them, and the network between them, which can be cut.
//! - [`Client`]: the raw generated stubs over one connection. Raw, because invalid requests are
//!   half of what is tested.
//! - [`http`], [`certs`]: pages and the JSON gateway; certificates for TLS.
//! - [`script`]: golden scripts, `tests/scripts/*/*`: what is asked, and what etcd answered.
//! - [`differential`]: random requests sent to two servers, answers compared field by field.
//! - [`history`]: what clients were told while things broke, and whether it can all be true.
//! - [`lag`]: members that need snapshots, again and again, under load.
//! - [`text`]: answers as text, complete and the same on every run.
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | `TARGET` | `kvd` (default) or `etcd`: what [`Target::from_env`] runs |
//! | `KVD_BIN` | the kvd to run, instead of the one next to the running test |
//! | `KVD_ETCD` | the etcd to run, instead of `target/go/etcd` |
//! | `KVD_REQUIRE_ETCD` | `1`: tests that need etcd fail without it instead of passing empty |
//! | `UPDATE_GOLDENFILES` | `1`: scripts are rewritten with what the target answers |

pub mod certs;
mod client;
mod cluster;
pub mod differential;
pub mod history;
pub mod http;
pub mod lag;

mod node;
mod ports;
pub mod script;
mod target;
pub mod text;

pub use client::Client;
pub use cluster::{Cluster, ClusterOptions, PATIENCE};
pub use node::{Node, NodeOptions};
pub use ports::free_port;
pub use target::{Target, etcd_is_required, go_binary, workspace_binary};
