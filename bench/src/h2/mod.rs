//! A gRPC client that costs almost nothing.
//!
//! The load generator shares the machine with the server it measures, so every microsecond it
//! spends is taken from that server. A general client spends 8 us a call; this one about 1, by
//! leaving out what a benchmark does not need: one thread, non-blocking sockets, requests written
//! straight into a connection's output buffer (one `write` for all that became due together), and
//! responses counted frame by frame. Bodies are collected only for calls that ask for it.
//!
//! It speaks enough HTTP/2 for any conforming server: flow control in both directions, SETTINGS,
//! PING, GOAWAY, and header compression of what it sends.
//!
//! # Caveats
//! - Response headers are not decoded. A unary gRPC call that succeeds carries a message, one that
//!   fails does not, and that is how they are told apart; the reason for a failure is found by
//!   repeating the call through a general client (see `admin`).
//! - No TLS, and IPv4 or IPv6 addresses only after resolution by the standard library.

mod connection;
mod frame;
mod hpack;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use connection::{Call, Connection, Sink};
pub(crate) use stream::End;

/// The methods of etcd's API that workloads call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Put,
    Range,
    Txn,
    Watch,
}

impl Method {
    fn path(self) -> &'static str {
        match self {
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::Watch => "/etcdserverpb.Watch/Watch",
        }
    }

    /// Whether the client keeps its half of the stream open after the first message.
    fn is_streaming(self) -> bool {
        self == Self::Watch
    }
}
