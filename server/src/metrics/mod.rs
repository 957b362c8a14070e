//! What is counted, and the page that says it in Prometheus' text.
//!
//! Names, types and labels are etcd's, so that dashboards and alerts made for etcd work; what only
//! kvd has is called `kvd_*`. What etcd counts and kvd does not have (a v2 store, bbolt's commits, Go's
//! runtime) is left out; the comparison in the tests lists it.
//!
//! Counting is one addition to a number that lies still: no lock, no allocation, no lookup by name.
//! What the store, the log and consensus know anyway is read when the page is asked for. The numbers
//! are the process's, which is one member.

mod calls;
mod kinds;
mod member;
mod page;
mod process;
mod text;

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use calls::{Messages, Method};
pub use kinds::{Counter, Histogram};
pub use member::Sources;
pub use page::page;

use kinds::Grid;
use proto::etcdserverpb::TxnResponse;
use proto::internal::Command;
use proto::internal::command::Op;
use proto::mvccpb::event::EventType;
use store::mvcc::{Applied, Response};

/// All numbers that are counted as things happen.
pub static METRICS: Metrics = Metrics::new();

/// By what they are about.
pub struct Metrics {
    pub kv: Kv,
    pub raft: Raft,
    pub leases: Leases,
    pub clients: Traffic,
    pub disk: Disk,
    pub health: Health,
}

/// What was applied and read.
pub struct Kv {
    pub puts: Counter,
    pub deletes: Counter,
    pub ranges: Counter,
    /// Transactions of more than one operation, as in etcd.
    pub txns: Counter,
    pub put_bytes: Counter,
    /// By operation, as [`APPLIED`] names them, and then by failure and success.
    pub applied: [[Histogram; 2]; APPLIED.len()],
    /// Ranges among them, as in etcd.
    pub slow_applies: Counter,
    pub range_durations: [Histogram; 2],
    pub hash_durations: Histogram,
    pub hash_rev_durations: Histogram,
}

/// Commands as etcd's label `op` has them.
pub const APPLIED: [&str; 23] = [
    "Put",
    "DeleteRange",
    "Txn",
    "Compaction",
    "LeaseGrant",
    "LeaseRevoke",
    "LeaseCheckpoint",
    "ClusterMemberAttrSet",
    "Alarm",
    "DowngradeInfoSet",
    "AuthEnable",
    "AuthDisable",
    "Authenticate",
    "UserAdd",
    "UserDelete",
    "UserChangePassword",
    "UserGrantRole",
    "UserRevokeRole",
    "RoleAdd",
    "RoleDelete",
    "RoleGrantPermission",
    "RoleRevokePermission",
    "Other",
];

/// Consensus and the members.
pub struct Raft {
    pub leader_changes: Counter,
    pub proposals_pending: Counter,
    pub proposals_failed: Counter,
    pub read_indexes_failed: Counter,
    pub slow_read_indexes: Counter,
    pub heartbeat_failures: Counter,
    pub promotions: Counter,
    pub snapshot_installs: Counter,
    pub snapshots_installing: Counter,
    /// The other members that this one has spoken to, and how that went.
    pub peers: Mutex<Vec<(u64, &'static Peer)>>,
}

/// What passes between this member and another one.
pub struct Peer {
    pub traffic: Traffic,
    pub send_failures: Counter,
    pub round_trips: Histogram,
    /// 1 while it can be reached.
    pub active: Counter,
    pub disconnected: Counter,
}

pub struct Leases {
    pub granted: Counter,
    pub revoked: Counter,
    pub renewed: Counter,
    pub expired: Counter,
    /// Seconds that were granted.
    pub ttls: Histogram,
}

/// Bytes on connections of one kind, framing included.
pub struct Traffic {
    pub received: Counter,
    pub sent: Counter,
}

pub struct Disk {
    /// From a committed run to its watchers and answers.
    pub runs: Histogram,
    pub checkpoints: Histogram,
    pub snapshots: Histogram,
}

pub struct Health {
    pub success: Counter,
    pub failures: Counter,
    /// `livez` and `readyz` checks as they were last, and how often they were what.
    pub checks: Mutex<Vec<Checked>>,
}

/// One check of one page.
#[derive(Clone, Copy)]
pub struct Checked {
    pub page: &'static str,
    pub check: &'static str,
    pub ok: bool,
    pub successes: u64,
    pub errors: u64,
}

impl Metrics {
    const fn new() -> Metrics {
        Metrics {
            kv: Kv {
                puts: Counter::new(),
                deletes: Counter::new(),
                ranges: Counter::new(),
                txns: Counter::new(),
                put_bytes: Counter::new(),
                applied: [const { [const { Histogram::new(Grid::APPLY) }; 2] }; APPLIED.len()],
                slow_applies: Counter::new(),
                range_durations: [const { Histogram::new(Grid::APPLY) }; 2],
                hash_durations: Histogram::new(Grid::HASH),
                hash_rev_durations: Histogram::new(Grid::HASH),
            },
            raft: Raft {
                leader_changes: Counter::new(),
                proposals_pending: Counter::new(),
                proposals_failed: Counter::new(),
                read_indexes_failed: Counter::new(),
                slow_read_indexes: Counter::new(),
                heartbeat_failures: Counter::new(),
                promotions: Counter::new(),
                snapshot_installs: Counter::new(),
                snapshots_installing: Counter::new(),
                peers: Mutex::new(Vec::new()),
            },
            leases: Leases {
                granted: Counter::new(),
                revoked: Counter::new(),
                renewed: Counter::new(),
                expired: Counter::new(),
                ttls: Histogram::new(Grid::LEASE),
            },
            clients: Traffic::new(),
            disk: Disk {
                runs: Histogram::new(Grid::DISK),
                checkpoints: Histogram::new(Grid::DISK),
                snapshots: Histogram::new(Grid::SNAPSHOT),
            },
            health: Health {
                success: Counter::new(),
                failures: Counter::new(),
                checks: Mutex::new(Vec::new()),
            },
        }
    }
}

impl Metrics {
    /// A command that was applied, and how long that took.
    pub fn applied(&self, command: &Command, applied: &Applied, took: Duration) {
        let Some(op) = &command.op else { return };
        let (place, success) = (place_of(op), usize::from(applied.outcome.is_ok()));
        self.kv.applied[place][success].took(took);
        match (&applied.outcome, op) {
            (Ok(Response::Put(_)), _) => self.kv.puts.add(1),
            (Ok(Response::DeleteRange(_)), _) => self.kv.deletes.add(1),
            (Ok(Response::Txn(txn)), _) => self.kv.txn(txn),
            (Ok(Response::LeaseGrant(granted)), _) => {
                self.leases.granted.add(1);
                self.leases.ttls.add(granted.ttl.unsigned_abs());
            }
            (Ok(Response::LeaseRevoke(_)), _) => self.leases.revoked.add(1),
            _ => {}
        }
        let events = applied.events.iter().flat_map(|revision| &revision.events);
        let put_bytes = events.filter(|event| event.kind == EventType::Put);
        self.kv.put_bytes.add(put_bytes.map(|event| event.kv.as_bytes().len() as u64).sum());
    }

    /// A range that was read.
    pub fn ranged(&self, success: bool, took: Duration) {
        self.kv.ranges.add(1);
        self.kv.range_durations[usize::from(success)].took(took);
    }
}

impl Kv {
    fn txn(&self, txn: &TxnResponse) {
        let (mut puts, mut deletes, mut ranges) = (0, 0, 0);
        count(txn, &mut puts, &mut deletes, &mut ranges);
        self.puts.add(puts);
        self.deletes.add(deletes);
        self.ranges.add(ranges);
        self.txns.add(u64::from(puts + deletes + ranges > 1));
    }
}

fn count(txn: &TxnResponse, puts: &mut u64, deletes: &mut u64, ranges: &mut u64) {
    use proto::etcdserverpb::response_op::Response as Op;
    for response in txn.responses.iter().filter_map(|op| op.response.as_ref()) {
        match response {
            Op::ResponsePut(_) => *puts += 1,
            Op::ResponseDeleteRange(_) => *deletes += 1,
            Op::ResponseRange(_) => *ranges += 1,
            Op::ResponseTxn(nested) => count(nested, puts, deletes, ranges),
        }
    }
}

/// What etcd calls it.
pub fn name_of(op: &Op) -> &'static str {
    APPLIED[place_of(op)]
}

/// In [`APPLIED`].
fn place_of(op: &Op) -> usize {
    match op {
        Op::Put(_) => 0,
        Op::DeleteRange(_) => 1,
        Op::Txn(_) => 2,
        Op::Compaction(_) => 3,
        Op::LeaseGrant(_) => 4,
        Op::LeaseRevoke(_) => 5,
        Op::LeaseCheckpoint(_) => 6,
        Op::MemberAttributes(_) => 7,
        Op::Alarm(_) => 8,
        Op::DowngradeInfo(_) => 9,
        Op::AuthEnable(_) => 10,
        Op::AuthDisable(_) => 11,
        Op::IssueToken(_) => 12,
        Op::UserAdd(_) => 13,
        Op::UserDelete(_) => 14,
        Op::UserChangePassword(_) => 15,
        Op::UserGrantRole(_) => 16,
        Op::UserRevokeRole(_) => 17,
        Op::RoleAdd(_) => 18,
        Op::RoleDelete(_) => 19,
        Op::RoleGrantPermission(_) => 20,
        Op::RoleRevokePermission(_) => 21,
        Op::MemberUpdate(_) => APPLIED.len() - 1,
    }
}

impl Traffic {
    pub const fn new() -> Traffic {
        Traffic { received: Counter::new(), sent: Counter::new() }
    }
}

/// Notes when the process started.
pub fn begin() {
    LazyLock::force(&process::STARTED);
}

impl Raft {
    /// The numbers of another member. To be kept, as this takes a lock.
    pub fn peer(&self, id: u64) -> &'static Peer {
        let mut peers = lock(&self.peers);
        if let Some((_, peer)) = peers.iter().find(|(known, _)| *known == id) {
            return peer;
        }
        // One for each member that ever was: a few hundred bytes that live as long as the process.
        let peer: &'static Peer = Box::leak(Box::new(Peer {
            traffic: Traffic::new(),
            send_failures: Counter::new(),
            round_trips: Histogram::new(Grid::ROUND_TRIP),
            active: Counter::new(),
            disconnected: Counter::new(),
        }));
        peers.push((id, peer));
        peer
    }
}

impl Peer {
    /// Whether an attempt to reach it succeeded.
    pub fn reached(&self, reached: bool) {
        match (self.active.get(), reached) {
            (0, true) => self.active.add(1),
            (1.., false) => {
                self.active.take(1);
                self.disconnected.add(1);
            }
            _ => {}
        }
    }
}

impl Health {
    /// Takes note of a check of `/livez` or `/readyz`.
    pub fn checked(&self, page: &'static str, check: &'static str, ok: bool) {
        let mut checks = lock(&self.checks);
        let known = checks.iter().position(|known| (known.page, known.check) == (page, check));
        let at = known.unwrap_or_else(|| {
            checks.push(Checked { page, check, ok, successes: 0, errors: 0 });
            checks.len() - 1
        });
        checks[at].ok = ok;
        match ok {
            true => checks[at].successes += 1,
            false => checks[at].errors += 1,
        }
    }
}

/// A poisoned lock means a panic, and a panic aborts the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
