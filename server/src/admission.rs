//! Admission: what a member refuses before it is proposed, so that memory, disk and log keep room.
//!
//! A client's proposal is looked at by the member it came to, and counts there for as long as
//! somebody could be told what became of it: its client may give up before the log does. The
//! leader, whose log it goes into first, looks once more at what came over others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proto::etcdserverpb::{TxnRequest, request_op::Request};
use proto::internal::command::Op;

use crate::limits;
use crate::metrics::METRICS;
use crate::raft::types::Proposal;
use crate::replica::{Current, Unavailable};

pub struct Admission {
    current: Arc<Current>,
    request_bytes_max: usize,
    /// Rows in memory above which clients are told to slow down.
    recent_bytes_max: usize,
    /// Of proposals on their way.
    waiting_bytes: AtomicUsize,
    /// Set by the housekeeper: room on the disk is for the log alone.
    disk_full: AtomicBool,
}

/// Bytes of a proposal, which count until this is dropped.
pub struct Claim {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.admission.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        METRICS.raft.proposals_pending.take(1);
    }
}

impl Admission {
    pub fn new(current: Arc<Current>, request_bytes_max: usize, recent_bytes_max: usize) -> Self {
        let (waiting_bytes, disk_full) = Default::default();
        Self { current, request_bytes_max, recent_bytes_max, waiting_bytes, disk_full }
    }

    /// Says what it was before.
    pub fn set_disk_full(&self, full: bool) -> bool {
        self.disk_full.swap(full, Ordering::Relaxed)
    }

    pub fn disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Lets a proposal of a client of this member in.
    pub fn claim(self: &Arc<Self>, proposal: &Proposal, grows: bool) -> Result<Claim, Unavailable> {
        let bytes = proposal.command_len();
        if bytes > self.request_bytes_max {
            return Err(Unavailable::RequestTooLarge);
        }
        if grows && self.disk_full() {
            return Err(Unavailable::NoSpace);
        }
        if self.waiting_bytes.load(Ordering::Relaxed) + bytes > limits::PROPOSAL_BYTES_MAX
            || self.is_behind()
        {
            return Err(Unavailable::TooManyRequests);
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        METRICS.raft.proposals_pending.add(1);
        Ok(Claim { admission: self.clone(), bytes })
    }

    /// Whether this member's log takes a proposal that another member has let in.
    pub fn accept(&self, proposal: &Proposal) -> Result<(), Unavailable> {
        // A command is looked into only when that matters.
        let grows = || proposal.command().is_ok_and(|it| it.op.as_ref().is_some_and(may_grow));
        if self.disk_full() && grows() {
            return Err(Unavailable::NoSpace);
        }
        if self.is_behind() {
            return Err(Unavailable::TooManyRequests);
        }
        Ok(())
    }

    /// Whether checkpoints cannot keep up.
    fn is_behind(&self) -> bool {
        self.current.load().sizes().recent_bytes as usize > self.recent_bytes_max
    }
}

/// Whether a command can add a value or a lease.
pub fn may_grow(op: &Op) -> bool {
    match op {
        Op::Put(_) | Op::LeaseGrant(_) => true,
        Op::Txn(txn) => may_put(txn),
        _ => false,
    }
}

fn may_put(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => may_put(nested),
        _ => false,
    })
}
