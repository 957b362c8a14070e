//! Transactions that only read: not part of the log, evaluated at one pinned revision, in steps.

use std::sync::Arc;

use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse};

use super::compare::CompareWork;
use super::pins::Pin;
use super::range::RangeWork;
use super::store::{Step, Store};
use super::txn::check_range;
use super::write::header;
use crate::{ReadError, Refusal};

/// A read-only transaction on its way; see [`Store::read_txn`].
pub struct TxnRead {
    store: Arc<Store>,
    request: TxnRequest,
    revision: i64,
    compacted: i64,
    stage: Stage,
    responses: Vec<ResponseOp>,
    /// Of the responses.
    bytes: usize,
    _pin: Pin,
}

enum Stage {
    /// Conditions from this position on are open; the one under way.
    Compare(usize, Option<CompareWork>),
    /// Operations of a branch from this position on are open; the one under way.
    Run(bool, usize, Option<RangeWork>),
}

impl Store {
    /// Begins a transaction for which [`check::is_read_only`](super::check::is_read_only) holds,
    /// at the current revision.
    pub fn read_txn(self: &Arc<Self>, request: &TxnRequest) -> Result<TxnRead, Refusal> {
        let (revision, compacted, pin) = {
            let state = self.state();
            (state.revision, state.compacted, self.pin(state.compacted))
        };
        Ok(TxnRead {
            store: self.clone(),
            request: request.clone(),
            revision,
            compacted,
            stage: Stage::Compare(0, None),
            responses: Vec::new(),
            bytes: 0,
            _pin: pin,
        })
    }
}

impl TxnRead {
    /// Does a bounded piece of work. Callers let others run between two calls.
    pub fn step(&mut self) -> Result<Step<TxnResponse>, ReadError> {
        match &mut self.stage {
            Stage::Compare(position, work) => {
                let Some(compare) = self.request.compare.get(*position) else {
                    self.branch(true)?;
                    return Ok(Step::More);
                };
                let work = work.get_or_insert_with(|| {
                    CompareWork::begin(&self.store.state(), compare, self.revision)
                });
                match work.step(&self.store, compare)? {
                    Step::More => {}
                    Step::Done(true) => self.stage = Stage::Compare(*position + 1, None),
                    Step::Done(false) => self.branch(false)?,
                }
                Ok(Step::More)
            }
            Stage::Run(succeeded, position, work) => {
                let ops = branch(&self.request, *succeeded);
                let Some(range) = ops.get(*position).and_then(range_of) else {
                    return Ok(Step::Done(TxnResponse {
                        header: Some(header(self.revision)),
                        succeeded: *succeeded,
                        responses: std::mem::take(&mut self.responses),
                    }));
                };
                let mut under_way = match work.take() {
                    Some(work) => work,
                    None => {
                        let (state, at) = (self.store.state(), self.revision);
                        RangeWork::begin(&state, range, at, self.compacted)?
                    }
                };
                match under_way.step(&self.store)? {
                    Step::More => *work = Some(under_way),
                    Step::Done(response) => {
                        self.bytes +=
                            response.kvs.iter().map(|kv| kv.as_bytes().len()).sum::<usize>();
                        let response = Some(Response::ResponseRange(response));
                        self.responses.push(ResponseOp { response });
                        *position += 1;
                    }
                }
                Ok(Step::More)
            }
        }
    }

    /// About what it holds in memory so far.
    pub fn held_bytes(&self) -> usize {
        let under_way = match &self.stage {
            Stage::Run(_, _, Some(work)) => work.held_bytes(),
            _ => 0,
        };
        self.bytes + under_way
    }

    /// All conditions are decided: checks the operations of the branch taken.
    fn branch(&mut self, succeeded: bool) -> Result<(), Refusal> {
        for range in branch(&self.request, succeeded).iter().filter_map(range_of) {
            check_range(range, self.revision, self.compacted)?;
        }
        self.stage = Stage::Run(succeeded, 0, None);
        Ok(())
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    match succeeded {
        true => &request.success,
        false => &request.failure,
    }
}

fn range_of(op: &RequestOp) -> Option<&RangeRequest> {
    match &op.request {
        Some(Request::RequestRange(range)) => Some(range),
        _ => None,
    }
}
