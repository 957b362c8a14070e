//! Reads: one key, or all keys under a prefix.

use prost::Message;
use proto::etcdserverpb::RangeRequest;

use super::keys::prefix_end;
use super::{KeySpace, Request, Workload};
use crate::h2::Method;
use crate::load::Tally;

pub(crate) struct Range {
    keys: KeySpace,
    request: RangeRequest,
    reply_bytes_min: u64,
}

impl Range {
    /// An answer without a value of `value_bytes` is wrong.
    pub(crate) fn new(keys: KeySpace, serializable: bool, value_bytes: usize) -> Self {
        let request = RangeRequest { serializable, ..RangeRequest::default() };
        Self { keys, request, reply_bytes_min: value_bytes as u64 }
    }
}

impl Workload for Range {
    fn request(&mut self, _client: u32, message: &mut Vec<u8>) -> Request {
        let number = self.keys.draw();
        self.keys.write(number, &mut self.request.key);
        self.request.encode_raw(message);
        let reply_bytes_min = self.reply_bytes_min;
        Request { method: Method::Range, collects: false, reply_bytes_min }
    }

    fn reply(&mut self, _client: u32, _message: &[u8], _tally: &mut Tally) {}
}

pub(crate) struct List {
    message: Vec<u8>,
    reply_bytes_min: u64,
}

impl List {
    /// Lists `prefix`, where `keys` keys have values of `value_bytes`.
    pub(crate) fn new(prefix: &str, serializable: bool, keys: u32, value_bytes: usize) -> Self {
        let request = RangeRequest {
            key: prefix.into(),
            range_end: prefix_end(prefix.as_bytes()),
            serializable,
            ..RangeRequest::default()
        };
        let reply_bytes_min = u64::from(keys) * value_bytes as u64;
        Self { message: request.encode_to_vec(), reply_bytes_min }
    }
}

impl Workload for List {
    fn request(&mut self, _client: u32, message: &mut Vec<u8>) -> Request {
        message.extend_from_slice(&self.message);
        let reply_bytes_min = self.reply_bytes_min;
        Request { method: Method::Range, collects: false, reply_bytes_min }
    }

    fn reply(&mut self, _client: u32, _message: &[u8], _tally: &mut Tally) {}
}
