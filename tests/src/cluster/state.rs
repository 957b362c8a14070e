//! What the members say of themselves, and waiting until they are as they should be.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proto::etcdserverpb::{HashKvRequest, HashKvResponse, StatusRequest, StatusResponse};

use super::Cluster;
use crate::Client;

/// How long anything may take that is awaited. Much longer than it takes, for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// A member that does not say how it is within this time is as good as silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The same for a look at several things.
const LOOK_WITHIN: Duration = Duration::from_secs(15);

impl Cluster {
    /// What a member says of itself, if it says anything.
    pub async fn status(&self, place: usize) -> Option<StatusResponse> {
        if !self.is_awake(place) {
            return None;
        }
        let ask = async {
            let mut client = self.client(place).await.ok()?;
            Some(client.maintenance.status(StatusRequest {}).await.ok()?.into_inner())
        };
        tokio::time::timeout(ANSWER_WITHIN, ask).await.ok()?
    }

    /// The id of a member that runs.
    pub async fn id(&self, place: usize) -> Result<u64> {
        self.wait("it says its id", async || Some(self.status(place).await?.header?.member_id))
            .await
    }

    /// The leader, once all members that are awake agree.
    pub async fn leader(&self) -> Result<usize> {
        self.leader_of(&self.awake()).await
    }

    /// The leader of some members, once they agree that it is one of them.
    pub async fn leader_of(&self, places: &[usize]) -> Result<usize> {
        self.wait("they agree on a leader", async || self.agreed_leader(places).await).await
    }

    async fn agreed_leader(&self, places: &[usize]) -> Option<usize> {
        let (mut leaders, mut ids) = (Vec::new(), Vec::new());
        for place in places {
            let status = self.status(*place).await?;
            leaders.push((status.leader, status.raft_term));
            ids.push(status.header?.member_id);
        }
        let first = *leaders.first()?;
        let agreed = leaders.iter().all(|leader| *leader == first);
        let place = places[ids.iter().position(|id| *id == first.0)?];
        agreed.then_some(place)
    }

    /// The raft term that a member is in.
    pub async fn term(&self, place: usize) -> Result<u64> {
        self.wait("it says its term", async || Some(self.status(place).await?.raft_term)).await
    }

    pub async fn hash_kv(&self, place: usize, revision: i64) -> Result<HashKvResponse> {
        let mut client = self.client(place).await?;
        let answer = client.maintenance.hash_kv(HashKvRequest { revision }).await?;
        Ok(answer.into_inner())
    }

    /// Waits until all members that are awake have the same revision and the same HashKV there;
    /// returns that revision. For a cluster that nobody writes to.
    ///
    /// # Errors
    /// When they do not come to that, with what each has.
    pub async fn wait_in_step(&self) -> Result<i64> {
        let places = self.awake();
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            seen.clear();
            for place in &places {
                seen.push(self.position(*place).await);
            }
            let first = seen.first().context("nobody is awake")?;
            if let Some((revision, ..)) = *first
                && seen.iter().all(|position| position == first)
            {
                return Ok(revision);
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
        bail!(
            "members {places:?} are not in step after {PATIENCE:?}: (revision, hash, compacted) \
             {seen:?}\n{}",
            self.log_tails()
        )
    }

    /// Revision, hash and compacted revision of one member.
    async fn position(&self, place: usize) -> Option<(i64, u32, i64)> {
        let ask = self.hash_kv(place, 0);
        let answer = tokio::time::timeout(ANSWER_WITHIN, ask).await.ok()?.ok()?;
        Some((answer.hash_revision, answer.hash, answer.compact_revision))
    }

    /// Looks until there is something.
    ///
    /// # Errors
    /// When there is still nothing after [`PATIENCE`]; with how everybody is.
    pub async fn wait<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A call to a member that was just paused has no end.
            let found = tokio::time::timeout(LOOK_WITHIN, look()).await;
            if let Ok(Some(found)) = found {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let how = self.describe().await;
                bail!("not within {PATIENCE:?}: {what}\n{how}\n{}", self.log_tails());
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// A line for each member.
    pub async fn describe(&self) -> String {
        let mut lines = Vec::new();
        for place in self.places() {
            let name = &self.node(place).options().name;
            let what = match self.status(place).await {
                Some(status) => format!(
                    "leader {:x}, term {}, index {}, applied {}, revision {}",
                    status.leader,
                    status.raft_term,
                    status.raft_index,
                    status.raft_applied_index,
                    status.header.as_ref().map_or(0, |header| header.revision),
                ),
                None if self.is_awake(place) => "silent".to_owned(),
                None => "stopped or paused".to_owned(),
            };
            lines.push(format!("{name}: {what}"));
        }
        lines.join("\n")
    }

    /// A connection to whichever member answers first, without waiting for a leader.
    pub async fn any_client(&self) -> Result<Client> {
        self.wait("a member takes connections", async || {
            for place in self.awake() {
                if let Ok(client) = self.client(place).await {
                    return Some(client);
                }
            }
            None
        })
        .await
    }
}
