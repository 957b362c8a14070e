//! Alarms: what is wrong at which member. As long as any member has one, all refuse what it forbids.
//!
//! They are the small table `alarm`, as etcd has it: the key is an encoded `AlarmMember`, the value empty.
//!
//! | alarm | refused |
//! |---|---|
//! | `NOSPACE` | what makes the data grow: a new key, a longer value, a lease. etcd refuses every put |
//! | `CORRUPT` | every change of keys and leases, and compaction |

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, PutRequest, TxnRequest,
};
use proto::internal::command::Op;

use super::meta::Tables;
use super::state::State;
use super::store::Store;
use super::write::header;
use crate::Refusal;

const BUCKET: &str = "alarm";

/// Which alarms any member has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    pub no_space: bool,
    pub corrupt: bool,
}

impl Alarms {
    pub(super) fn of(tables: &Tables) -> Self {
        let mut alarms = Self::default();
        for member in members(tables) {
            match member.alarm() {
                AlarmType::Nospace => alarms.no_space = true,
                AlarmType::Corrupt => alarms.corrupt = true,
                AlarmType::None => {}
            }
        }
        alarms
    }
}

/// In the order of kinds and members.
fn members(tables: &Tables) -> Vec<AlarmMember> {
    let rows = tables.get(BUCKET).into_iter().flat_map(BTreeMap::keys);
    // What is no alarm came with an etcd's snapshot, and would not be understood there either.
    let mut members: Vec<_> = rows.filter_map(|key| AlarmMember::decode(&key[..]).ok()).collect();
    members.sort_by_key(|member| (member.alarm, member.member_id));
    members
}

/// Raises, ends or lists alarms.
pub(super) fn apply(state: &mut State, revision: i64, request: &AlarmRequest) -> AlarmResponse {
    let named = AlarmMember { member_id: request.member_id, alarm: request.alarm };
    let key = Bytes::from(named.encode_to_vec());
    let is_kind = request.alarm != AlarmType::None as i32;
    let alarms = match request.action() {
        AlarmAction::Get => list(&state.tables, request.alarm),
        AlarmAction::Activate if is_kind => {
            state.tables.entry(BUCKET.into()).or_default().insert(key, Bytes::new());
            vec![named]
        }
        AlarmAction::Deactivate => {
            let table = state.tables.get_mut(BUCKET);
            let removed = table.is_some_and(|table| table.remove(&key).is_some());
            if state.tables.get(BUCKET).is_some_and(BTreeMap::is_empty) {
                state.tables.remove(BUCKET);
            }
            removed.then_some(named).into_iter().collect()
        }
        AlarmAction::Activate => Vec::new(),
    };
    state.alarms = Alarms::of(&state.tables);
    AlarmResponse { header: Some(header(revision)), alarms }
}

fn list(tables: &Tables, kind: i32) -> Vec<AlarmMember> {
    let mut list = members(tables);
    list.retain(|member| kind == AlarmType::None as i32 || member.alarm == kind);
    list
}

/// What the alarms say to a command. A transaction is asked about once it is known what it does.
pub(super) fn refusal(state: &State, op: &Op) -> Option<Refusal> {
    let Alarms { no_space, corrupt } = state.alarms;
    let changes = matches!(
        op,
        Op::Put(_)
            | Op::DeleteRange(_)
            | Op::Txn(_)
            | Op::Compaction(_)
            | Op::LeaseGrant(_)
            | Op::LeaseRevoke(_)
    );
    if corrupt && changes {
        return Some(Refusal::Corrupt);
    }
    let grows = match op {
        Op::Put(put) => no_space && put_grows(state, put),
        Op::LeaseGrant(_) => no_space,
        _ => false,
    };
    grows.then_some(Refusal::NoSpace)
}

/// Whether a put makes the data larger, the old version apart, which a compaction removes.
pub(super) fn put_grows(state: &State, put: &PutRequest) -> bool {
    match state.index.find(&put.key).filter(|slot| slot.is_live()) {
        Some(slot) => !put.ignore_value && put.value.len() > slot.newest.value_bytes(),
        None => true,
    }
}

fn may_grow(state: &State, txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestPut(put)) => put_grows(state, put),
        Some(Request::RequestTxn(nested)) => may_grow(state, nested),
        _ => false,
    })
}

impl Store {
    /// Which alarms any member has.
    pub fn active_alarms(&self) -> Alarms {
        self.state().alarms
    }

    /// The alarms of a kind, or all for 0.
    pub fn alarms(&self, kind: i32) -> Vec<AlarmMember> {
        list(&self.state().tables, kind)
    }

    /// Whether a command would make the data larger as it is now, whichever way a transaction goes.
    pub fn would_grow(&self, op: &Op) -> bool {
        match op {
            Op::Put(put) => put_grows(&self.state(), put),
            Op::Txn(txn) => may_grow(&self.state(), txn),
            Op::LeaseGrant(_) => true,
            _ => false,
        }
    }
}
