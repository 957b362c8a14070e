//! What the members of kvd say in their logs of snapshots and of their log's length. Nothing else
//! tells, and clients need not know.

use super::Cluster;

/// What a member says each time.
const RECEIVING: &str = "receiving a snapshot file";
const INSTALLED: &str = "snapshot installed";
const PURGED: &str = "log purged";

impl Cluster {
    /// How many snapshots others began to send to a member, in all its runs.
    pub fn snapshots_received(&self, place: usize) -> usize {
        self.node(place).log().matches(RECEIVING).count()
    }

    /// How many of them it took for its state.
    pub fn snapshots_installed(&self, place: usize) -> usize {
        self.node(place).log().matches(INSTALLED).count()
    }

    /// The last index that a member's log does not have any more.
    pub fn purged(&self, place: usize) -> u64 {
        let log = self.node(place).log();
        let index =
            |line: &str| line.split("index=").nth(1)?.split_whitespace().next()?.parse().ok();
        log.lines().rev().find(|line| line.contains(PURGED)).and_then(index).unwrap_or(0)
    }

    /// Waits until a member that is away could not be brought up to date from any log: until all
    /// others have purged theirs beyond what it may have.
    ///
    /// # Errors
    /// When they do not, though somebody writes.
    pub async fn wait_purged_without(&self, away: usize) -> anyhow::Result<()> {
        let others: Vec<usize> = self.awake().into_iter().filter(|place| *place != away).collect();
        let last = async || {
            let leader = self.leader_of(&others).await.ok()?;
            Some(self.status(leader).await?.raft_index)
        };
        let last = self.wait("the leader says how long its log is", last).await?;
        let purged = async || others.iter().all(|place| self.purged(*place) >= last).then_some(());
        self.wait(&format!("logs are purged up to {last}"), purged).await
    }
}
