//! Members that fall behind a log that is kept short, and are sent snapshots, again and again,
//! while clients write as fast as two processors let them.
//!
//! Consensus takes in a snapshot between entries that it has not applied yet and entries that are
//! on their way: the order in which all that happens depends on who gets the processor. This makes
//! it happen often, and looks at what must hold whatever the order: nobody ends by itself, whoever
//! was away catches up, nothing that was acknowledged is lost, and all members hold the same.

mod load;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;

use crate::{Cluster, ClusterOptions, Target};
use load::Load;
pub use load::Written;

/// Writes that must be acknowledged after a member went away.
const SOME: u64 = 200;
/// Attempts at making a member need a snapshot.
const TRIES_MAX: usize = 5;
const MOVE_WITHIN: Duration = Duration::from_secs(5);

/// Why a member falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Absence {
    Killed,
    Paused,
    CutOff,
    /// Killed, removed, emptied and added.
    Replaced,
}

impl Absence {
    pub const ALL: [Self; 4] = [Self::Killed, Self::Paused, Self::CutOff, Self::Replaced];
}

/// What happens while a member is being sent a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Twist {
    Nothing,
    /// It is killed and started again.
    KilledAgain,
    /// It is paused for a moment.
    PausedAgain,
    /// Another member leads.
    LeaderMoved,
}

impl Twist {
    fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..10) {
            0..4 => Self::Nothing,
            4..6 => Self::KilledAgain,
            6..8 => Self::PausedAgain,
            _ => Self::LeaderMoved,
        }
    }
}

/// Three members of kvd on two processors, each keeping next to nothing of its log.
pub fn options() -> ClusterOptions {
    let mut options = ClusterOptions::new(Target::Kvd, 3)
        .arg("--recent-bytes-max=1MiB")
        .arg("--snapshot-log-bytes=1MiB")
        .arg("--log-retention-bytes=0");
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 2) {
        options.wrapper = ["taskset", "-c", "0,1"].map(str::to_owned).to_vec();
    }
    options
}

/// A cluster with writers at work.
pub struct Lag {
    pub cluster: Cluster,
    load: Load,
    report: Report,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rounds: u64,
    pub written: Written,
    /// Snapshots that members took for their state.
    pub installed: usize,
    /// How often what happened.
    pub happened: BTreeMap<String, u64>,
}

impl Lag {
    /// For a cluster that was started with [`options`] or the like. Used inside of a runtime of
    /// several threads.
    pub fn new(cluster: Cluster) -> Self {
        let load = Load::start(cluster.endpoints());
        Self { cluster, load, report: Report::default() }
    }

    /// One member, drawn, is made to fall behind and comes back, with a twist or without.
    ///
    /// # Errors
    /// When somebody ends, or does not catch up.
    pub async fn round(&mut self, absence: Absence, rng: &mut StdRng) -> Result<()> {
        let place = rng.random_range(self.cluster.places());
        let twist = Twist::draw(rng);
        self.fall_behind(place, absence, twist).await
    }

    /// As often as it takes until a follower has installed a snapshot.
    pub async fn one_snapshot(&mut self, absence: Absence) -> Result<()> {
        let before = self.installed();
        for _ in 0..TRIES_MAX {
            let place = (self.cluster.leader().await? + 1) % self.cluster.places().len();
            self.fall_behind(place, absence, Twist::Nothing).await?;
            if self.installed() > before {
                return Ok(());
            }
        }
        anyhow::bail!("{absence:?} {TRIES_MAX} times, and no snapshot was needed")
    }

    /// Ends the load, and holds the members to what was acknowledged and to each other.
    ///
    /// # Errors
    /// With what does not hold.
    pub async fn finish(mut self) -> Result<(Cluster, Report)> {
        self.expect_all_alive()?;
        let mut client = self.cluster.any_client().await?;
        self.report.written = self.load.finish(&mut client).await?;
        self.report.installed =
            self.cluster.places().map(|p| self.cluster.snapshots_installed(p)).sum();
        self.cluster.wait_in_step().await?;
        Ok((self.cluster, self.report))
    }

    fn installed(&self) -> usize {
        self.cluster.places().map(|place| self.cluster.snapshots_installed(place)).sum()
    }

    async fn fall_behind(&mut self, place: usize, absence: Absence, twist: Twist) -> Result<()> {
        self.report.rounds += 1;
        *self.report.happened.entry(format!("{absence:?}")).or_default() += 1;
        self.leave(place, absence)?;
        self.some_writes().await?;
        self.cluster.wait_purged_without(place).await?;
        let received = self.cluster.snapshots_received(place);
        self.come_back(place, absence).await?;
        if twist != Twist::Nothing && self.is_sent(place, received).await? {
            *self.report.happened.entry(format!("{twist:?}")).or_default() += 1;
            self.twist(place, twist).await?;
        }
        self.catch_up(place).await?;
        self.expect_all_alive()
    }

    fn leave(&mut self, place: usize, absence: Absence) -> Result<()> {
        match absence {
            Absence::Killed | Absence::Replaced => self.cluster.kill(place),
            Absence::Paused => self.cluster.pause(place),
            Absence::CutOff => {
                self.cluster.cut_off(place);
                Ok(())
            }
        }
    }

    async fn come_back(&mut self, place: usize, absence: Absence) -> Result<()> {
        match absence {
            Absence::Killed => self.cluster.spawn(place),
            Absence::Paused => self.cluster.resume(place),
            Absence::CutOff => {
                self.cluster.heal();
                Ok(())
            }
            Absence::Replaced => {
                let by = (place + 1) % self.cluster.places().len();
                self.cluster.replace(place, by).await.map(drop)
            }
        }
    }

    /// Waits until a member is being sent a snapshot, or needs none any more.
    async fn is_sent(&self, place: usize, received: usize) -> Result<bool> {
        let goal = self.last_index().await?;
        let sent = async || match self.cluster.snapshots_received(place) > received {
            true => Some(true),
            false => {
                (self.cluster.status(place).await?.raft_applied_index >= goal).then_some(false)
            }
        };
        self.cluster.wait("a snapshot is sent", sent).await
    }

    async fn twist(&mut self, place: usize, twist: Twist) -> Result<()> {
        match twist {
            Twist::Nothing => {}
            Twist::KilledAgain => {
                self.cluster.kill(place)?;
                self.cluster.spawn(place)?;
            }
            Twist::PausedAgain => {
                self.cluster.pause(place)?;
                self.some_writes().await?;
                self.cluster.resume(place)?;
            }
            Twist::LeaderMoved => {
                let to = (self.cluster.leader().await? + 1) % self.cluster.places().len();
                // To one that is behind or does not answer, it is a thing of chance.
                let _ = tokio::time::timeout(MOVE_WITHIN, self.cluster.move_leader(to)).await;
            }
        }
        Ok(())
    }

    /// Waits until a member has applied all that there is now.
    async fn catch_up(&self, place: usize) -> Result<()> {
        let goal = self.last_index().await?;
        let caught_up =
            async || (self.cluster.status(place).await?.raft_applied_index >= goal).then_some(());
        self.cluster.wait(&format!("it catches up with {goal}"), caught_up).await
    }

    async fn last_index(&self) -> Result<u64> {
        let applied = async || {
            let mut indices = Vec::new();
            for place in self.cluster.awake() {
                indices.extend(self.cluster.status(place).await.map(|s| s.raft_applied_index));
            }
            indices.into_iter().max()
        };
        self.cluster.wait("somebody says how much there is", applied).await
    }

    async fn some_writes(&self) -> Result<()> {
        let due = self.load.acknowledged() + SOME;
        let written = async || (self.load.acknowledged() >= due).then_some(());
        self.cluster.wait("writes are acknowledged", written).await
    }

    fn expect_all_alive(&mut self) -> Result<()> {
        for place in self.cluster.places() {
            let ended = self.cluster.ended(place)?;
            let tail = || self.cluster.node(place).log_tail();
            ensure!(ended.is_none(), "member {} has ended: {ended:?}\n{}", place + 1, tail());
        }
        Ok(())
    }
}
