//! Black-box tests of the built programs, in one binary: real processes, free ports, temporary
//! directories. `cargo build` first; see the harness for the environment variables.

mod abuse;
mod auth;
mod authority;
mod bootstrap;
mod cluster;
mod compactor;
mod config;
mod ctl;
mod differential;
mod gateway;
mod lease;
mod members;
mod metrics;
mod pings;
mod process;
mod quota;
mod range_stream;
mod scripts;
mod slow;
mod snapshot;
mod sockets;
mod systemd;
mod tidy;
mod tls;
mod utl;
mod watch;
mod wire;
