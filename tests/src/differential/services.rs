//! Random calls of the services beside keys and leases, as lines of a script.

use proto::etcdserverpb::RangeRequest;
use proto::etcdserverpb::request_op::Request;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::Step;
use super::generate::{Generator, for_each_operation, spare_etcd};

impl Generator {
    /// A lock or a step of an election. Each lease has names of its own, so nobody ever has to wait.
    pub(super) fn turn(&mut self) -> Step {
        let lease = self.lease_id();
        let digits = if lease < 0 { lease.to_string() } else { format!("{lease:x}") };
        let (lock, election) = (format!("l{lease}"), format!("e{lease}"));
        let value = self.random.random_range(0..50u32);
        let revision = match self.random.random_range(0..4) {
            0 => 0,
            _ => self.view.revision - self.random.random_range(0..20),
        };
        Step::Line(match self.random.random_range(0..10) {
            0..3 => format!("lock {lock} {lease}"),
            3..5 => format!("unlock {lock}/{digits}"),
            5..7 => format!("campaign {election} {lease} {value}"),
            7 => format!("leader {election}"),
            8 => format!("proclaim {election}/{digits} {revision} {lease} {value}"),
            _ => format!("resign {election}/{digits} {revision} {lease}"),
        })
    }

    /// An alarm ends soon, as few requests are more than refused meanwhile.
    pub(super) fn alarm(&mut self) -> Step {
        let kind = *["nospace", "nospace", "corrupt"].choose(&mut self.random).expect("not empty");
        let member = *["own", "own", "own", "7", ""].choose(&mut self.random).expect("not empty");
        let line = match self.random.random_range(0..10) {
            0..4 => format!("alarm get {}", if self.once_in(2) { "none" } else { kind }),
            4 => "alarm deactivate nospace own".to_owned(),
            _ => {
                self.alarm = Some((kind, member));
                format!("alarm activate {kind} {member}")
            }
        };
        Step::Line(line.trim_end().to_owned())
    }

    /// Ends the alarm that is on, once in a while.
    pub(super) fn end_of_alarm(&mut self) -> Option<Step> {
        let ends = self.alarm.is_some() && self.once_in(8);
        let (kind, member) = self.alarm.take_if(|_| ends)?;
        Some(Step::Line(format!("alarm deactivate {kind} {member}").trim_end().to_owned()))
    }

    /// Learners that nobody ever starts: they cost no quorum.
    pub(super) fn member(&mut self) -> Step {
        let name = if self.once_in(3) { "y" } else { "x" };
        let port = self.random.random_range(1..=self.members_added + 1);
        Step::Line(match self.random.random_range(0..10) {
            0..2 => "members".to_owned(),
            2 => "members serializable".to_owned(),
            3..6 => {
                self.members_added += 1;
                format!("member add {name} learner http://127.0.0.1:{}", self.members_added)
            }
            6 => format!("member promote {name}"),
            7 => format!("member update {name} http://127.0.0.1:{port}"),
            _ => format!("member remove {name}"),
        })
    }

    /// A request that the gateway takes as well.
    pub(super) fn json(&mut self) -> Step {
        let step = match self.random.random_range(0..10) {
            0..4 => Step::Put(self.put()),
            4..7 => Step::Range(unsorted(self.range())),
            7 => Step::Delete(self.delete()),
            _ => {
                let mut txn = spare_etcd(self.txn(0));
                for_each_operation(&mut txn, &mut |request| {
                    if let Request::RequestRange(range) = request {
                        *range = unsorted(range.clone());
                    }
                });
                Step::Txn(txn)
            }
        };
        Step::Json(Box::new(step))
    }
}

/// The order of pairs whose sort keys are equal would be compared as well.
fn unsorted(range: RangeRequest) -> RangeRequest {
    RangeRequest { sort_order: 0, sort_target: 0, ..range }
}
