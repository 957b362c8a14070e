//! Transactions that may change keys. All conditions, nested ones included, are decided on the
//! state before; then everything that could refuse is checked; then the operations run in order.

use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};

use super::alarms::put_grows;
use super::compare::CompareWork;
use super::state::State;
use super::store::{Step, Store};
use super::write::{Write, header};
use crate::{Fatal, Refusal};

/// The branch taken, and those of the transactions nested in it, in their order.
struct Path<'r> {
    succeeded: bool,
    ops: &'r [RequestOp],
    nested: Vec<Path<'r>>,
}

impl Write<'_> {
    pub(super) fn txn(
        &mut self,
        request: &TxnRequest,
    ) -> Result<Result<TxnResponse, Refusal>, Fatal> {
        self.release();
        let path = decide(self.store, request, self.before)?;
        let state = self.state();
        if state.alarms.no_space && grows(state, &path) {
            return Ok(Err(Refusal::NoSpace));
        }
        if let Err(refusal) = check(self.state(), &path, &mut Vec::new()) {
            return Ok(Err(refusal));
        }
        let mut response = self.run(&path)?;
        response.header = Some(header(self.revision()));
        Ok(Ok(response))
    }

    /// Runs the operations of a branch. The header stays empty, as it does in nested responses.
    fn run(&mut self, path: &Path<'_>) -> Result<TxnResponse, Fatal> {
        let mut responses = Vec::with_capacity(path.ops.len());
        let mut nested = path.nested.iter();
        for op in path.ops {
            let response = match &op.request {
                None => None,
                Some(Request::RequestRange(request)) => {
                    let response = self.range(request)?.expect("its revision was checked");
                    Some(Response::ResponseRange(response))
                }
                Some(Request::RequestPut(request)) => {
                    let response = self.put_request(request)?.expect("its key was checked");
                    Some(Response::ResponsePut(response))
                }
                Some(Request::RequestDeleteRange(request)) => {
                    Some(Response::ResponseDeleteRange(self.delete_request(request)?))
                }
                Some(Request::RequestTxn(_)) => {
                    let path = nested.next().expect("a path was decided for each");
                    Some(Response::ResponseTxn(self.run(path)?))
                }
            };
            responses.push(ResponseOp { response });
        }
        let header = Some(ResponseHeader::default());
        Ok(TxnResponse { header, succeeded: path.succeeded, responses })
    }
}

fn decide<'r>(store: &Store, request: &'r TxnRequest, revision: i64) -> Result<Path<'r>, Fatal> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(store, compare, revision)? {
            succeeded = false;
            break;
        }
    }
    let ops = if succeeded { &request.success } else { &request.failure };
    let mut nested = Vec::new();
    for op in ops {
        if let Some(Request::RequestTxn(request)) = &op.request {
            nested.push(decide(store, request, revision)?);
        }
    }
    Ok(Path { succeeded, ops, nested })
}

fn holds(store: &Store, compare: &Compare, revision: i64) -> Result<bool, Fatal> {
    let mut work = CompareWork::begin(&store.state(), compare, revision);
    loop {
        if let Step::Done(verdict) = work.step(store, compare)? {
            return Ok(verdict);
        }
    }
}

/// Whether a put of the branch makes the data larger. A key is put once, and not also deleted.
fn grows(state: &State, path: &Path<'_>) -> bool {
    let puts = path
        .ops
        .iter()
        .any(|op| matches!(&op.request, Some(Request::RequestPut(put)) if put_grows(state, put)));
    puts || path.nested.iter().any(|nested| grows(state, nested))
}

/// Refuses what could fail half-way. `deleted` gathers where the deletes so far begin that have no
/// end: a put may follow them that takes over a value which is gone by then. etcd crashes on it.
fn check<'r>(state: &State, path: &Path<'r>, deleted: &mut Vec<&'r [u8]>) -> Result<(), Refusal> {
    let mut nested = path.nested.iter();
    for op in path.ops {
        match &op.request {
            Some(Request::RequestRange(request)) => {
                check_range(request, state.revision, state.compacted)?;
            }
            Some(Request::RequestPut(request)) => check_put(state, request, deleted)?,
            Some(Request::RequestTxn(_)) => {
                check(state, nested.next().expect("a path was decided for each"), deleted)?;
            }
            Some(Request::RequestDeleteRange(request)) if request.range_end == [0] => {
                deleted.push(&request.key);
            }
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// In a transaction a negative revision counts as one that was compacted, if anything was.
pub(super) fn check_range(
    request: &RangeRequest,
    current: i64,
    compacted: i64,
) -> Result<(), Refusal> {
    if request.revision > current {
        return Err(Refusal::FutureRevision);
    }
    if request.revision != 0 && request.revision < compacted {
        return Err(Refusal::Compacted);
    }
    Ok(())
}

fn check_put(state: &State, request: &PutRequest, deleted: &[&[u8]]) -> Result<(), Refusal> {
    let key = &request.key[..];
    let live = || {
        state.index.find(key).is_some_and(|slot| slot.is_live())
            && !deleted.iter().any(|start| key >= *start)
    };
    if (request.ignore_value || request.ignore_lease) && !live() {
        return Err(Refusal::KeyNotFound);
    }
    if request.lease != 0 && state.leases.handle(request.lease).is_none() {
        return Err(Refusal::LeaseNotFound);
    }
    Ok(())
}
