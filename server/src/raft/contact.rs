//! Who leads, as far as it can be told: a leader nobody hears from is none.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::Notify;

use super::core::Core;

/// When the leader was heard from last.
pub struct Contact {
    timeout: Duration,
    heard: Mutex<Option<(u64, Instant)>>,
    news: Notify,
}

impl Contact {
    /// A leader that says nothing for `timeout` is taken for lost.
    pub fn new(timeout: Duration) -> Contact {
        Contact { timeout, heard: Mutex::new(None), news: Notify::new() }
    }

    /// The leader of this term spoke.
    pub fn heard(&self, term: u64) {
        let mut heard = self.heard.lock().expect("nothing panics while it is locked");
        let before = heard.replace((term, Instant::now()));
        if before.is_none_or(|(of, at)| of != term || at.elapsed() >= self.timeout) {
            self.news.notify_one();
        }
    }

    /// Returns when a leader spoke that was not heard from before, or not for long.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn hears(&self, term: u64) -> bool {
        let heard = *self.heard.lock().expect("nothing panics while it is locked");
        heard.is_some_and(|(of, at)| of == term && at.elapsed() < self.timeout)
    }

    /// Whether this member leads in this term for less than the timeout.
    fn is_new(&self, term: u64) -> bool {
        let mut heard = self.heard.lock().expect("nothing panics while it is locked");
        let (of, since) = *heard.get_or_insert((term, Instant::now()));
        if of != term {
            *heard = Some((term, Instant::now()));
            return true;
        }
        since.elapsed() < self.timeout
    }

    /// The leader, or 0, and the term.
    ///
    /// openraft goes on naming a leader that is gone. A follower has to hear from it; a leader has
    /// to hear from its quorum, or another may lead already.
    pub fn leader(&self, raft: &Core) -> (u64, u64) {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let term = metrics.vote.leader_id.term;
        let Some(leader) = metrics.current_leader else { return (0, term) };
        let is_led = match leader == metrics.id {
            true => {
                let alone = metrics.membership_config.voter_ids().eq([leader]);
                let acked = metrics.last_quorum_acked.map(|at| at.elapsed());
                // Who was just elected heard from a quorum then.
                alone || self.is_new(term) || acked.is_some_and(|since| since < self.timeout)
            }
            false => self.hears(term),
        };
        (if is_led { leader } else { 0 }, term)
    }
}
