//! Workloads: what clients ask, and what they make of the answers.
//!
//! A workload writes each request into a buffer that is reused, out of messages that are reused:
//! no allocation per call on the common paths. Keys and values come from `keys`.

mod keys;
mod mixed;
mod read;
mod watch;
mod write;

pub(crate) use keys::{KeySpace, Order, Values};
pub(crate) use mixed::Mixed;
pub(crate) use read::{List, Range};
pub(crate) use watch::Watchers;
pub(crate) use write::{Put, Txn};

use crate::h2::Method;
use crate::load::Tally;

/// How to send the request that was written, and what to expect.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// The answer is given to `reply`.
    pub(crate) collects: bool,
    /// A shorter answer is wrong.
    pub(crate) reply_bytes_min: u64,
}

impl Request {
    fn counted(method: Method) -> Self {
        Self { method, collects: false, reply_bytes_min: 1 }
    }
}

pub(crate) trait Workload {
    /// Writes the next request of `client` into the empty `message`.
    fn request(&mut self, client: u32, message: &mut Vec<u8>) -> Request;

    /// Takes a response message of a call that collects.
    fn reply(&mut self, client: u32, message: &[u8], tally: &mut Tally);
}
