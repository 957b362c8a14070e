//! Apply: a log entry changes the store. The only door for changes; a pure function of the state
//! and the entry, so that every member comes to the same state.

use std::sync::Arc;

use proto::EncodedKeyValue;
use proto::etcdserverpb::{
    AlarmResponse, AuthenticateResponse, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeResponse, PutRequest,
    PutResponse, ResponseHeader, ResponseOp, TxnResponse, response_op,
};
use proto::internal::{self, command::Op};

use super::alarms;
use super::auth::Need;
use super::check;
use super::downgrade;
use super::leases::Lease;
use super::members;
use super::recent::RevisionEvents;
use super::store::Store;
use super::write::{Write, header};
use crate::{Fatal, LogId, Refusal};

/// What a log entry holds.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A new leader's first entry.
    Blank,
    Command(&'a internal::Command),
    Membership(&'a internal::Membership),
}

/// What came of it.
#[derive(Debug)]
pub struct Applied {
    pub outcome: Result<Response, Refusal>,
    /// `None` when no key changed.
    pub events: Option<Arc<RevisionEvents>>,
}

/// An answer without the parts only a member knows: headers hold the revision alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    None,
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    /// Of a command about users or roles: they all answer a header alone.
    Auth(ResponseHeader),
    Token(AuthenticateResponse),
    Alarm(AlarmResponse),
}

impl Response {
    /// Bytes of rows that it holds.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Put(put) => row_bytes(put.prev_kv.as_slice()),
            Self::DeleteRange(deleted) => row_bytes(&deleted.prev_kvs),
            Self::Txn(txn) => txn_bytes(txn),
            _ => 0,
        }
    }
}

fn row_bytes(rows: &[EncodedKeyValue]) -> usize {
    rows.iter().map(|row| row.as_bytes().len()).sum()
}

fn txn_bytes(txn: &TxnResponse) -> usize {
    use response_op::Response;
    let of = |op: &ResponseOp| match &op.response {
        Some(Response::ResponseRange(range)) => row_bytes(&range.kvs),
        Some(Response::ResponsePut(put)) => row_bytes(put.prev_kv.as_slice()),
        Some(Response::ResponseDeleteRange(deleted)) => row_bytes(&deleted.prev_kvs),
        Some(Response::ResponseTxn(nested)) => txn_bytes(nested),
        None => 0,
    };
    txn.responses.iter().map(of).sum()
}

/// How far the apply thread is.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) applied: LogId,
    pub(super) revision: i64,
}

impl Store {
    /// Applies the entry after the last one. Called by one thread.
    ///
    /// # Errors
    /// When the engine fails. The entry may be half applied then; the process must end.
    pub fn apply(&self, id: LogId, input: Input<'_>) -> Result<Applied, Fatal> {
        let mut cursor = self.cursor.lock().expect("a panic while applying ends the process");
        assert!(id > cursor.applied, "entries are applied in order, each once");
        let mut write = Write::begin(self, cursor.revision);
        let outcome = match input {
            Input::Blank => Ok(Response::None),
            Input::Membership(membership) => {
                members::change(write.state(), id, membership);
                Ok(Response::None)
            }
            // Its leader's clock is not the one that counts any more.
            Input::Command(command) if ![0, id.term].contains(&command.only_in_term) => {
                Ok(Response::None)
            }
            Input::Command(command) => match permitted(&mut write, command) {
                Ok(()) => run(&mut write, id, command)?,
                Err(refusal) => Err(refusal),
            },
        };
        let events = write.finish(id);
        cursor.applied = id;
        cursor.revision = events.as_ref().map_or(cursor.revision, |events| events.main);
        Ok(Applied { outcome, events })
    }
}

type Outcome = Result<Response, Refusal>;

/// Whether the data may change as it is, and the caller may change it, by the users and roles of this
/// moment.
fn permitted(write: &mut Write<'_>, command: &internal::Command) -> Result<(), Refusal> {
    let Some(op) = &command.op else { return Ok(()) };
    if let Some(refusal) = alarms::refusal(write.state(), op) {
        return Err(refusal);
    }
    let store = write.store;
    // What a leader decided by itself is nobody's command.
    if !store.auth_enabled() || command.only_in_term != 0 {
        return Ok(());
    }
    write.release();
    let nobody = internal::Caller::default();
    let caller = command.caller.as_ref().unwrap_or(&nobody);
    store.check_needs(&store.auth(), caller, &Need::of_command(op))
}

fn run(write: &mut Write<'_>, id: LogId, command: &internal::Command) -> Result<Outcome, Fatal> {
    Ok(match &command.op {
        Some(Op::Put(request)) => put(write, request)?,
        Some(Op::DeleteRange(request)) => delete_range(write, request)?,
        Some(Op::Txn(request)) => write.txn(request)?.map(Response::Txn),
        Some(Op::Compaction(request)) => compact(write, request.revision),
        Some(Op::LeaseGrant(request)) => grant(write, request),
        Some(Op::LeaseRevoke(request)) => revoke(write, request.id),
        Some(Op::LeaseCheckpoint(request)) => {
            for checkpoint in &request.checkpoints {
                write.state().leases.checkpoint(checkpoint.id, checkpoint.remaining_ttl);
            }
            Ok(Response::None)
        }
        Some(Op::Alarm(request)) => {
            let revision = write.revision();
            Ok(Response::Alarm(alarms::apply(write.state(), revision, request)))
        }
        Some(Op::MemberAttributes(attributes)) => {
            members::describe(write.state(), attributes);
            Ok(Response::None)
        }
        Some(Op::MemberUpdate(update)) => {
            members::update(write.state(), update).map(|()| Response::None)
        }
        Some(Op::DowngradeInfo(info)) => {
            downgrade::apply(write.state(), info);
            Ok(Response::None)
        }
        Some(op) => change_auth(write, id, op),
        None => Ok(Response::None),
    })
}

fn change_auth(write: &mut Write<'_>, id: LogId, op: &Op) -> Outcome {
    let header = header(write.revision());
    let done = write.store.auth.apply(op).expect("all other commands were told apart");
    done.map(|()| match op {
        Op::IssueToken(request) => {
            let token = format!("{}.{}", request.letters, id.index);
            Response::Token(AuthenticateResponse { header: Some(header), token })
        }
        _ => Response::Auth(header),
    })
}

fn put(write: &mut Write<'_>, request: &PutRequest) -> Result<Outcome, Fatal> {
    if request.lease != 0 && write.state().leases.handle(request.lease).is_none() {
        return Ok(Err(Refusal::LeaseNotFound));
    }
    Ok(write.put_request(request)?.map(Response::Put))
}

fn delete_range(write: &mut Write<'_>, request: &DeleteRangeRequest) -> Result<Outcome, Fatal> {
    Ok(Ok(Response::DeleteRange(write.delete_request(request)?)))
}

fn grant(write: &mut Write<'_>, request: &LeaseGrantRequest) -> Outcome {
    let LeaseGrantRequest { ttl, id } = *request;
    let header = Some(header(write.revision()));
    let leases = &mut write.state().leases;
    if id == 0 {
        return Err(Refusal::LeaseNotFound);
    }
    // Behind the alarms, which are the worse news.
    check::lease_grant(request)?;
    if leases.handle(id).is_some() {
        return Err(Refusal::LeaseExists);
    }
    leases.grant(Lease { id, ttl, remaining: 0 });
    Ok(Response::LeaseGrant(LeaseGrantResponse { header, id, ttl, error: String::new() }))
}

fn revoke(write: &mut Write<'_>, id: i64) -> Outcome {
    let Some(handle) = write.state().leases.handle(id) else {
        return Err(Refusal::LeaseNotFound);
    };
    write.delete_attached(handle);
    write.state().leases.remove(id);
    let header = Some(header(write.revision()));
    Ok(Response::LeaseRevoke(LeaseRevokeResponse { header }))
}

/// Raises the watermark: reads below it are refused from here on. Rows go in the background.
fn compact(write: &mut Write<'_>, revision: i64) -> Outcome {
    let state = write.state();
    if revision <= state.compacted {
        return Err(Refusal::Compacted);
    }
    if revision > state.revision {
        return Err(Refusal::FutureRevision);
    }
    let previous = std::mem::replace(&mut state.compacted, revision);
    state.due.push(previous, revision, state.finished);
    Ok(Response::Compaction(CompactionResponse { header: Some(header(state.revision)) }))
}
