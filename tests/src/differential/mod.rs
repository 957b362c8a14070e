//! The differential run: the same random requests to two servers, every answer compared.
//!
//! One of the two is the real etcd; the other one is kvd, or etcd as well, which must show no
//! difference at all and so proves the tool. Requests come from a seed and depend on nothing else
//! but the answers of the left server (its current revision), so a run can be repeated. At the
//! first difference the steps are replayed on fresh servers, again and again with fewer of them,
//! and the shortest list that still differs is printed in the language of the golden scripts.
//!
//! # What is not compared, and why
//!
//! - Cluster and member ids and the raft term: each server's own. That they are *its* ids, and
//!   are where etcd has them, is compared.
//! - The order of pairs whose sort keys are equal: etcd sorts unstably. Such pairs are compared
//!   as a set, and if a limit cuts through them, by their number.
//! - Which events share a response. etcd sends a watcher that is behind as much as there is every
//!   100 ms, so the parts depend on time. Per watcher the sequence of events is compared, and on
//!   each side by itself: no revision is split over responses (unless marked as fragments), and a
//!   header's revision is not below its events' nor above the store's.
//! - How watchers of one stream interleave: etcd goes through them in random order.
//! - Progress that is refused: etcd does not answer a request while a watcher is behind, so the
//!   same request is repeated until it is answered, and the answers are counted once.
//! - Anything of a watcher that was canceled by a compaction, after that: etcd keeps it around
//!   (its id stays taken, its stream never reports progress again).
//! - Which watchers are behind when a compaction comes: the run waits for all of them first.
//! - HashKV of a revision whose compaction still runs: the run waits for the compaction first.
//! - `Compact(0)`: etcd then answers HashKV of revision 0, which means the current one, with the
//!   hash of that compaction.
//! - A put that keeps what its transaction deleted before by a delete without an end: etcd panics
//!   on it. kvd refuses the transaction.
//! - A compaction at the very revision at which a transaction put what such a delete had deleted:
//!   etcd removes the new row too, and ends when it is to read it.
//!
//! - When `NOSPACE` refuses: kvd runs with etcd's rule.
//! - Locks and elections that have to wait: the answer depends on who is first.
//!
//! Auth has a run of its own (`tests/it/auth/random.rs`). Members that are added are learners that
//! nobody starts.

mod answer;
mod generate;
mod json;
mod line;
mod repro;
mod run;
mod services;
mod shrink;
mod side;
mod step;
mod watcher;

pub use run::{Compared, Difference, Plan, run};
pub use step::Step;
