//! What a request needs: every field that touches a key is here, or is not allowed to.

use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    DeleteRangeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest,
    WatchCreateRequest,
};
use proto::internal::command::Op;

/// Something that a user has to be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'r> {
    /// To administer.
    Root,
    Read {
        key: &'r [u8],
        end: &'r [u8],
    },
    Write {
        key: &'r [u8],
        end: &'r [u8],
    },
    /// To know all keys of a lease.
    ReadKeysOf(i64),
    /// To delete all keys of a lease, which is what its end does.
    WriteKeysOf(i64),
}

impl<'r> Need<'r> {
    pub fn of_range(request: &'r RangeRequest) -> Self {
        Self::Read { key: &request.key, end: &request.range_end }
    }

    /// Without a key a watch begins at the smallest there is.
    pub fn of_watch(request: &'r WatchCreateRequest) -> Self {
        let key = if request.key.is_empty() { &[0] } else { request.key.as_slice() };
        Self::Read { key, end: &request.range_end }
    }

    pub fn of_txn(request: &'r TxnRequest) -> Vec<Self> {
        let mut needs = Vec::new();
        add_txn(request, &mut needs);
        needs
    }

    pub fn of_time_to_live(request: &LeaseTimeToLiveRequest) -> Vec<Self> {
        request.keys.then_some(Self::ReadKeysOf(request.id)).into_iter().collect()
    }

    /// What is decided when a command is applied. Commands that are not about keys, users or roles
    /// were decided before they were proposed.
    pub fn of_command(op: &'r Op) -> Vec<Self> {
        let mut needs = Vec::new();
        match op {
            Op::Put(request) => add_put(request, &mut needs),
            Op::DeleteRange(request) => add_delete(request, &mut needs),
            Op::Txn(request) => add_txn(request, &mut needs),
            Op::LeaseRevoke(request) => needs.push(Self::WriteKeysOf(request.id)),
            Op::AuthEnable(_)
            | Op::AuthDisable(_)
            | Op::UserAdd(_)
            | Op::UserDelete(_)
            | Op::UserChangePassword(_)
            | Op::UserGrantRole(_)
            | Op::UserRevokeRole(_)
            | Op::RoleAdd(_)
            | Op::RoleDelete(_)
            | Op::RoleGrantPermission(_)
            | Op::RoleRevokePermission(_) => needs.push(Self::Root),
            // The password was right; what is left to check is that the user is still there.
            Op::IssueToken(_) => {}
            Op::Compaction(_)
            | Op::LeaseGrant(_)
            | Op::LeaseCheckpoint(_)
            | Op::Alarm(_)
            | Op::DowngradeInfo(_)
            | Op::MemberAttributes(_)
            | Op::MemberUpdate(_) => {}
        }
        needs
    }
}

/// The lease's end would delete the keys that are attached already: whoever may not, may not join.
fn add_put<'r>(request: &'r PutRequest, needs: &mut Vec<Need<'r>>) {
    let (key, end): (_, &[u8]) = (&*request.key, &[]);
    needs.push(Need::Write { key, end });
    if request.lease != 0 {
        needs.push(Need::WriteKeysOf(request.lease));
    }
    if request.prev_kv {
        needs.push(Need::Read { key, end });
    }
}

fn add_delete<'r>(request: &'r DeleteRangeRequest, needs: &mut Vec<Need<'r>>) {
    let (key, end) = (&*request.key, &*request.range_end);
    needs.push(Need::Write { key, end });
    if request.prev_kv {
        needs.push(Need::Read { key, end });
    }
}

/// Both branches and all that is nested in them: which one is taken tells of keys, too.
fn add_txn<'r>(request: &'r TxnRequest, needs: &mut Vec<Need<'r>>) {
    let compares = request.compare.iter();
    needs.extend(compares.map(|of| Need::Read { key: &of.key, end: &of.range_end }));
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => needs.push(Need::of_range(request)),
            Some(Request::RequestPut(request)) => add_put(request, needs),
            Some(Request::RequestDeleteRange(request)) => add_delete(request, needs),
            Some(Request::RequestTxn(request)) => add_txn(request, needs),
            None => {}
        }
    }
}
