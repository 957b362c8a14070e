//! Random faults of a cluster: several at a time, and all of them ended in the end.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};
use harness::{Cluster, Target};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::campaign::violation;
use crate::damage::{self, Vandal};

/// Ends in a row because of one damage; the next start must repair it.
const RESTARTS_MAX: u64 = 3;

/// Something done to a running cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Kill(usize),
    /// SIGTERM, and started again at once.
    Restart(usize),
    Pause(usize),
    /// Both ways, from all others.
    CutOff(usize),
    /// What the first sends does not reach the second.
    Cut(usize, usize),
    /// Hears nobody; the others hear it.
    Deafen(usize),
    /// Nobody hears it.
    Mute(usize),
    KillAll,
    /// Removed, emptied, added.
    Replace(usize),
    MoveLeader(usize),
}

impl Fault {
    fn draw(rng: &mut StdRng, members: usize) -> Self {
        let mut places: Vec<usize> = (0..members).collect();
        places.shuffle(rng);
        let (one, other) = (places[0], places[1]);
        match rng.random_range(0..100) {
            0..20 => Self::Kill(one),
            20..30 => Self::Restart(one),
            30..45 => Self::Pause(one),
            45..58 => Self::CutOff(one),
            58..68 => Self::Cut(one, other),
            68..76 => Self::Deafen(one),
            76..84 => Self::Mute(one),
            84..88 => Self::KillAll,
            88..92 => Self::Replace(one),
            _ => Self::MoveLeader(one),
        }
    }

    /// Without the places.
    pub(crate) fn kind(self) -> String {
        let text = format!("{self:?}");
        text.split_once('(').map_or(text.clone(), |(kind, _)| kind.to_owned())
    }
}

/// What happens in a round: faults, each after a pause.
pub(crate) fn plan(rng: &mut StdRng, members: usize) -> Vec<(Duration, Fault)> {
    let count = rng.random_range(1..=4);
    let mut pause = || Duration::from_millis(rng.random_range(0..2500));
    let pauses: Vec<Duration> = (0..count).map(|_| pause()).collect();
    pauses.into_iter().map(|pause| (pause, Fault::draw(rng, members))).collect()
}

/// Does it, and knows what must be mended.
pub(crate) struct Nemesis {
    /// By the members' places.
    vandals: Vec<Vandal>,
}

impl Nemesis {
    pub(crate) fn new(members: usize) -> Self {
        Self { vandals: (0..members).map(|_| Vandal::of_member()).collect() }
    }

    /// Does it, as far as the members' state allows; whether it did.
    pub(crate) async fn strike(
        &mut self,
        cluster: &mut Cluster,
        fault: Fault,
        rng: &mut StdRng,
    ) -> Result<bool> {
        let places: Vec<usize> = cluster.places().collect();
        let others = |place: usize| places.iter().copied().filter(move |other| *other != place);
        match fault {
            Fault::Kill(place) | Fault::Restart(place) | Fault::Pause(place)
                if !cluster.is_awake(place) =>
            {
                return Ok(false);
            }
            Fault::Kill(place) => cluster.kill(place)?,
            Fault::Restart(place) => {
                cluster.stop(place)?;
                cluster.spawn(place)?;
            }
            Fault::Pause(place) => cluster.pause(place)?,
            Fault::CutOff(place) => cluster.cut_off(place),
            Fault::Cut(from, to) => cluster.cut(from, to),
            Fault::Deafen(place) => others(place).for_each(|other| cluster.cut(other, place)),
            Fault::Mute(place) => others(place).for_each(|other| cluster.cut(place, other)),
            Fault::KillAll => places.iter().try_for_each(|place| cluster.kill(*place))?,
            Fault::Replace(place) => {
                // An operator does this when the others are well.
                self.mend(cluster, rng).await?;
                cluster.replace(place, (place + 1) % places.len()).await?;
                self.vandals[place] = Vandal::of_member();
            }
            // With members down or cut off it is refused, or it is a thing of chance.
            Fault::MoveLeader(place) => {
                let moving = cluster.move_leader(place);
                let moved = tokio::time::timeout(Duration::from_secs(5), moving).await;
                return Ok(moved.is_ok_and(|moved| moved.is_ok()));
            }
        }
        Ok(true)
    }

    /// Ends all faults: everybody runs and hears everybody. Whoever was down may find one of its
    /// files changed; says which.
    pub(crate) async fn mend(
        &mut self,
        cluster: &mut Cluster,
        rng: &mut StdRng,
    ) -> Result<Vec<String>> {
        cluster.heal();
        let mut done = Vec::new();
        for place in cluster.places() {
            self.expect_alive(cluster, place)?;
            if cluster.node(place).pid().is_some() {
                cluster.resume(place)?;
                continue;
            }
            let node = cluster.node(place);
            if node.options().target == Target::Kvd && rng.random_bool(0.4) {
                let damages = [damage::draw_one(rng)];
                let damage = self.vandals[place].inflict(&node.data_dir(), &damages, rng)?;
                done.extend(damage.what.iter().map(|what| format!("{what} of {}", place + 1)));
            }
        }
        let mut restarts = 0;
        while let Err(error) = self.bring_up(cluster).await {
            // A damaged engine may be noticed at any moment; a supervisor starts the member again.
            restarts += 1;
            if restarts > RESTARTS_MAX || !self.vandals.iter().any(Vandal::engine_is_suspect) {
                bail!(violation(format!("a member does not start again: {error:#}")));
            }
        }
        cluster.leader().await.map_err(|error| violation(format!("{error:#}")))?;
        Ok(done)
    }

    /// Starts all that do not run. Who may have a damaged engine reads what it can of it, and meets
    /// the damage now. What nobody reads could end it at any time, and nobody would start it again:
    /// such an engine is deleted, and built anew.
    async fn bring_up(&mut self, cluster: &mut Cluster) -> Result<()> {
        cluster.start_all()?;
        for place in cluster.places() {
            if !self.vandals[place].engine_is_suspect() {
                continue;
            }
            if let Err(error) = cluster.hash_kv(place, 0).await {
                cluster.wait_exit(place)?;
                return Err(error);
            }
            cluster.kill(place)?;
            fs::remove_dir_all(cluster.node(place).data_dir().join("db"))?;
            self.vandals[place].engine_was_rebuilt();
            cluster.start_again(place)?;
        }
        Ok(())
    }

    /// Nobody ends by itself, but who finds a damage of its engine.
    pub(crate) fn expect_alive(&self, cluster: &mut Cluster, place: usize) -> Result<()> {
        match cluster.ended(place)? {
            Some(status) if !self.vandals[place].engine_is_suspect() => {
                let tail = cluster.node(place).log_tail();
                bail!(violation(format!("member {} has ended: {status}\n{tail}", place + 1)))
            }
            _ => Ok(()),
        }
    }
}
