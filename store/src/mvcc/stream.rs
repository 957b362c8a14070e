//! A range in chunks whose size adapts, for clients that list more than fits one message.

use std::sync::Arc;

use proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::range::RangeWork;
use super::store::{Step, Store};
use super::write::header;
use super::{check, rows};
use crate::{ReadError, Refusal};

const FIRST_CHUNK_KEYS: i64 = 10;

/// A streamed range; see [`Store::range_stream`].
pub struct RangeStream {
    store: Arc<Store>,
    /// What is left to read, at a fixed revision.
    rest: Option<RangeRequest>,
    current: i64,
    /// Keys in the next chunk.
    keys: i64,
    /// Keys left until the limit of the request; 0 is no limit.
    limit: i64,
    sent: i64,
}

impl Store {
    /// Begins a streamed range. Its order is by key whatever the request says: what it could not
    /// honour was refused by [`check::range_stream`].
    pub fn range_stream(self: &Arc<Self>, request: &RangeRequest) -> Result<RangeStream, Refusal> {
        check::range(request)?;
        let state = self.state();
        if request.revision > state.revision {
            return Err(Refusal::FutureRevision);
        }
        let revision = if request.revision > 0 { request.revision } else { state.revision };
        if revision < state.compacted {
            return Err(Refusal::Compacted);
        }
        let rest = RangeRequest { revision, sort_order: 0, sort_target: 0, ..request.clone() };
        Ok(RangeStream {
            store: self.clone(),
            rest: Some(rest),
            current: state.revision,
            keys: FIRST_CHUNK_KEYS,
            limit: request.limit.max(0),
            sent: 0,
        })
    }
}

impl RangeStream {
    /// The next chunk, of about `bytes` bytes; `None` after the last. Only the last one has a
    /// header, a count and perhaps `more`.
    ///
    /// # Errors
    /// [`Refusal::Compacted`] when a compaction went past the revision meanwhile.
    pub fn next_chunk(&mut self, bytes: usize) -> Result<Option<RangeResponse>, ReadError> {
        let Some(mut request) = self.rest.take() else { return Ok(None) };
        let left = if self.limit > 0 { self.limit - self.sent } else { i64::MAX };
        request.limit = self.keys.min(left);
        let mut response = self.read(&request)?;
        let got = response.kvs.len() as i64;
        let total = self.sent + response.count;
        self.sent += got;
        let last = !response.more || request.count_only || got == left;
        if last {
            response.header = Some(header(self.current));
            response.count = total;
            response.more &= !request.count_only;
            return Ok(Some(response));
        }
        let kvs = &response.kvs;
        if let Some(kv) = kvs.last() {
            // The next chunk begins right after this key.
            request.key = kv.as_bytes()[rows::own_fields(kv).key].to_vec();
            request.key.push(0);
        }
        let size: usize = kvs.iter().map(|kv| kv.as_bytes().len()).sum();
        if size < bytes / 2 {
            self.keys = self.keys.saturating_mul(2);
        } else if size > bytes * 2 {
            self.keys = (self.keys / 2).max(1);
        }
        self.rest = Some(request);
        Ok(Some(RangeResponse { header: None, more: false, count: 0, ..response }))
    }

    fn read(&self, request: &RangeRequest) -> Result<RangeResponse, ReadError> {
        let (mut work, _pin) = {
            let state = self.store.state();
            let work = RangeWork::begin(&state, request, state.revision, state.compacted)?;
            (work, self.store.pin(request.revision))
        };
        loop {
            if let Step::Done(response) = work.step(&self.store)? {
                return Ok(response);
            }
        }
    }
}
