//! The quota: how far the data may grow, live keys, history and leases together.
//!
//! At the quota only growth is refused. What deletes, shortens, compacts or overwrites with as many bytes
//! passes, so that there is a way out, and the alarm that goes with it ends by itself once a tenth of the
//! quota is free again. `--strict-etcd-quota` is etcd's rule: every put and every lease is refused until
//! the alarm is disarmed by hand.
//!
//! Each member looks at its own data before it proposes; the alarm is replicated, and what it refuses is
//! the same everywhere (`store/src/mvcc/alarms.rs`).

use std::sync::atomic::{AtomicBool, Ordering};

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{AlarmRequest, AlarmType, PutRequest, RequestOp, TxnRequest};
use proto::internal::command::Op;
use store::mvcc::Store;
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;

use crate::limits;
use crate::replica::{Replica, Unavailable};

/// What a key and a lease cost besides their bytes, as etcd reckons.
const KEY_COST: u64 = 256;
const LEASE_COST: u64 = 64;

/// Percent of the quota at which it is said that it will be reached, and below which the alarm ends.
const WARNINGS_PERCENT: [u64; 2] = [80, 90];
const RELIEF_PERCENT: u64 = 90;

pub struct Quota {
    /// `None`: there is none.
    bytes: Option<u64>,
    strict: bool,
    /// Held by whoever raises the alarm.
    raising: Mutex<()>,
    /// The alarm was raised here, and nobody has looked since.
    raised: AtomicBool,
}

/// What the quota says to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admitted,
    Refused,
    /// And the alarm has to be raised.
    Full,
}

impl Quota {
    pub fn new(bytes: Option<u64>, strict: bool) -> Self {
        Self { bytes, strict, raising: Mutex::new(()), raised: AtomicBool::new(false) }
    }

    pub fn look(&self, store: &Store, op: &Op) -> Verdict {
        let cost = cost(op);
        if cost == 0 {
            return Verdict::Admitted;
        }
        // A cluster that is corrupt says so first, when the command is applied.
        let alarms = store.active_alarms();
        let alarmed = self.strict && alarms.no_space && !alarms.corrupt;
        let used = store.used_bytes();
        match self.bytes {
            Some(quota) if used + cost >= quota => match self.strict || store.would_grow(op) {
                false => Verdict::Admitted,
                // One that is too large for what is left says nothing of the others.
                true if !self.strict && percent(used, quota) < RELIEF_PERCENT => Verdict::Refused,
                true => Verdict::Full,
            },
            _ if alarmed => Verdict::Refused,
            _ => Verdict::Admitted,
        }
    }

    /// Raises the alarm of a member, unless it has it or somebody is about to.
    pub async fn raise(&self, replica: &Replica, member_id: u64) {
        // A client that gives up lets go of it.
        let Ok(_raising) = self.raising.try_lock() else { return };
        if has_alarm(&replica.store(), member_id) {
            return;
        }
        tracing::warn!("the quota is reached: writes that grow the data are refused");
        self.raised.store(true, Ordering::Relaxed);
        if let Err(why) = change_alarm(replica, AlarmAction::Activate, member_id).await {
            tracing::debug!(?why, "raising the alarm: the next write tries again");
        }
    }
}

/// What a command may cost, as etcd reckons.
fn cost(op: &Op) -> u64 {
    match op {
        Op::Put(put) => put_cost(put),
        Op::Txn(txn) => txn_cost(txn),
        Op::LeaseGrant(_) => LEASE_COST,
        _ => 0,
    }
}

fn put_cost(put: &PutRequest) -> u64 {
    KEY_COST + put.key.len() as u64 + put.value.len() as u64
}

fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| {
        let costs = ops.iter().map(|op| match &op.request {
            Some(Request::RequestPut(put)) => put_cost(put),
            Some(Request::RequestTxn(nested)) => txn_cost(nested),
            _ => 0,
        });
        costs.sum::<u64>()
    };
    branch(&txn.success).max(branch(&txn.failure))
}

fn percent(used: u64, quota: u64) -> u64 {
    used.saturating_mul(100) / quota.max(1)
}

fn has_alarm(store: &Store, member_id: u64) -> bool {
    store.active_alarms().no_space
        && store.alarms(AlarmType::Nospace.into()).iter().any(|it| it.member_id == member_id)
}

async fn change_alarm(
    replica: &Replica,
    action: AlarmAction,
    member_id: u64,
) -> Result<(), Unavailable> {
    let (action, alarm) = (action.into(), AlarmType::Nospace.into());
    let op = Op::Alarm(AlarmRequest { action, member_id, alarm });
    // Boxed, because what raises the alarm is a proposal as well.
    Box::pin(replica.propose(op)).await.map(drop)
}

/// Warns before the quota is reached, and ends this member's alarm when there is room again.
pub async fn watch(replica: Replica, member_id: u64) {
    let own = replica.quota();
    let Some(quota) = own.bytes else { return };
    let mut looks = tokio::time::interval(limits::QUOTA_LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gauge = Gauge::default();
    loop {
        looks.tick().await;
        let store = replica.store();
        let used = store.used_bytes();
        if let Some(reached) = gauge.warning(percent(used, quota)) {
            tracing::warn!(
                used_bytes = used,
                quota_bytes = quota,
                "{reached} % of the quota are used: delete keys, compact, or raise \
                 --quota-backend-bytes (and disarm the alarm if there is one then)"
            );
        }
        let alarmed = has_alarm(&store, member_id);
        if alarmed && own.raised.swap(false, Ordering::Relaxed) {
            gauge.in_need = true;
        }
        if !own.strict && gauge.relieved(percent(used, quota), alarmed) {
            tracing::info!("there is room below the quota again: writes go on");
            if let Err(why) = change_alarm(&replica, AlarmAction::Deactivate, member_id).await {
                tracing::debug!(?why, "ending the alarm: trying again");
            }
        }
    }
}

/// What was seen of the quota so far.
#[derive(Debug, Default)]
struct Gauge {
    warned: u64,
    /// The alarm was there for want of space. One that somebody raised by hand is left to them.
    in_need: bool,
}

impl Gauge {
    /// The percentage to warn of, once each time that it is reached.
    fn warning(&mut self, percent: u64) -> Option<u64> {
        let reached = WARNINGS_PERCENT.into_iter().rfind(|warning| percent >= *warning);
        let before = std::mem::replace(&mut self.warned, reached.unwrap_or(0));
        reached.filter(|reached| *reached > before)
    }

    fn relieved(&mut self, percent: u64, alarmed: bool) -> bool {
        self.in_need = alarmed && (self.in_need || percent >= RELIEF_PERCENT);
        self.in_need && percent < RELIEF_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_comes_once_on_the_way_up() {
        let mut gauge = Gauge::default();
        let seen = [10, 79, 80, 85, 91, 99, 85, 91, 50, 95];
        let warned = seen.map(|percent| gauge.warning(percent));
        let expected = [None, None, Some(80), None, Some(90), None, None, Some(90), None, Some(90)];
        assert_eq!(warned, expected);
    }

    #[test]
    fn an_alarm_ends_when_the_need_that_it_came_from_does() {
        let mut gauge = Gauge::default();
        assert!(!gauge.relieved(95, false));
        assert!(!gauge.relieved(95, true));
        assert!(gauge.relieved(89, true));
        assert!(gauge.relieved(50, true), "until it is gone");
        assert!(!gauge.relieved(50, false));
        assert!(!gauge.relieved(50, true), "raised by hand");
    }

    #[test]
    fn a_transaction_costs_as_much_as_its_dearer_branch() {
        let put = |bytes| {
            let (key, value) = (b"k".to_vec(), vec![0; bytes]);
            let put = PutRequest { key, value, ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        };
        let nested = TxnRequest { failure: vec![put(9), put(10)], ..TxnRequest::default() };
        let nested = RequestOp { request: Some(Request::RequestTxn(nested)) };
        let (success, failure) = (vec![put(100)], vec![nested, put(1)]);
        let txn = TxnRequest { success, failure, ..TxnRequest::default() };
        assert_eq!(cost(&Op::Txn(txn)), 3 * 257 + 20);
        assert_eq!(cost(&Op::Txn(TxnRequest::default())), 0);
    }
}
