//! What clients know together, so that each knows what it may expect of its next answer.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::sync::watch;

/// What all clients of a run know together.
#[derive(Debug, Default)]
pub struct Knowledge {
    pub next_id: AtomicU64,
    /// The newest revision that anybody was told of.
    pub floor: watch::Sender<i64>,
    /// The newest revision that a compaction was asked for.
    pub compaction: AtomicI64,
    /// The watcher has seen everything up to here.
    pub watched: AtomicI64,
    /// Writes refused for lack of space.
    pub no_space: AtomicU64,
}

impl Knowledge {
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn floor(&self) -> i64 {
        *self.floor.borrow()
    }

    /// Notes that a compaction will be asked for.
    pub fn will_compact(&self, revision: i64) {
        self.compaction.fetch_max(revision, Ordering::SeqCst);
    }

    pub fn told(&self, revision: i64) {
        self.floor
            .send_if_modified(|floor| revision > std::mem::replace(floor, revision.max(*floor)));
    }

    /// Returns once somebody was told of `revision`.
    pub async fn wait_told(&self, revision: i64) {
        let reached = self.floor.subscribe().wait_for(|floor| *floor >= revision).await.is_ok();
        assert!(reached, "the sender lives as long as this");
    }
}
