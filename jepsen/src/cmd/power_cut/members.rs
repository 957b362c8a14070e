//! All members of a cluster lose power at once, or one of them does.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::history::author::Mix;
use harness::history::check::Summary;
use harness::history::trial::Trial;
use harness::{Cluster, ClusterOptions, PATIENCE};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::{IMAGE_MIB, PowerCut, WRITES_PER_ROUND_MIN, prove_cut, wait_stopped};
use crate::campaign::{no_start, small_limits, violation};
use crate::common::runtime;
use crate::image::Image;
use crate::print::progress;

/// After the members are up, clients must get on by so many writes.
const WRITES_AFTER: usize = 30;

/// The members and the disk that each is on.
struct Plant {
    trial: Trial,
    images: Vec<Image>,
    generation: u64,
    dir: TempDir,
}

pub(super) fn run(command: &PowerCut, members: usize, seed: u64) -> Result<String> {
    runtime()?.block_on(async {
        let mut plant = Plant::set_up(command, members, seed)?;
        let mut total = Summary::default();
        for round in 1..=command.rounds {
            match plant.round(round, seed).await {
                Ok(summary) => total.add(&summary),
                Err(error) => {
                    progress(&plant.trial.cluster.log_tails());
                    return Err(error.context(format!("round {round}, seed {seed}")));
                }
            }
        }
        let (rounds, writes) = (command.rounds, total.acknowledged);
        ensure!(
            writes >= rounds * WRITES_PER_ROUND_MIN,
            "only {writes} writes were acknowledged in {rounds} rounds: too few to say anything"
        );
        Ok(format!(
            "{rounds} rounds of {members} members, {writes} writes acknowledged, {} unanswered ({} \
             of them happened), {} reads, {} revisions; seed {seed}",
            total.unknown, total.unknown_found, total.reads, total.revisions
        ))
    })
}

impl Plant {
    fn set_up(command: &PowerCut, members: usize, seed: u64) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("kvjepsen-").tempdir()?;
        let mut options = ClusterOptions::new(command.target, members);
        options.args = small_limits(command.target).args;
        options.dir = Some(dir.path().to_owned());
        let mut cluster = Cluster::prepare(command.common.cluster(options))?;
        let mut images = Vec::new();
        for place in cluster.places() {
            let image = Image::create(dir.path(), &format!("disk-{place}-0"), IMAGE_MIB)?;
            fs::create_dir(image.mount().join("data"))?;
            symlink(image.mount().join("data"), cluster.node(place).data_dir())?;
            images.push(image);
        }
        prove_cut(&images[0], dir.path())?;
        cluster.start_all()?;
        Ok(Self { trial: Trial::new(cluster, seed), images, generation: 0, dir })
    }

    async fn round(&mut self, round: u64, seed: u64) -> Result<Summary> {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(round));
        self.trial.work(Mix { keys: 200, ..Mix::default() });
        let busy = Duration::from_millis(rng.random_range(300..3000));
        tokio::time::sleep(busy).await;
        let mut hit: Vec<usize> = self.trial.cluster.places().collect();
        if rng.random_bool(0.3) {
            hit = vec![rng.random_range(0..hit.len())];
        }
        self.cut(&hit)?;
        let started = Instant::now();
        self.trial.cluster.start_all().map_err(|error| no_start(&error))?;
        let took = started.elapsed();
        let writes = self.trial.crowd().wait_writes(WRITES_AFTER, started);
        if tokio::time::timeout(PATIENCE, writes).await.is_err() {
            return Err(violation(format!("nobody can write {PATIENCE:?} after the start")));
        }
        let summary = self.trial.check().await?;
        let who = if hit.len() > 1 { "all".to_owned() } else { format!("member {}", hit[0] + 1) };
        progress(&format!(
            "round {round}: cut {who} after {busy:?}, up in {took:.0?}; {} writes acknowledged, {} \
             open, {} reads, {} revisions: ok",
            summary.acknowledged, summary.unknown, summary.reads, summary.revisions,
        ));
        Ok(summary)
    }

    /// Stops members, all before the first copy is made, and replaces each one's disk by a copy of
    /// what has reached it.
    fn cut(&mut self, hit: &[usize]) -> Result<()> {
        let cluster = &mut self.trial.cluster;
        for place in hit {
            cluster.pause(*place)?;
            wait_stopped(cluster.node(*place))?;
        }
        self.generation += 1;
        for place in hit {
            let name = format!("disk-{place}-{}", self.generation);
            self.images[*place].copy_device(&self.dir.path().join(format!("{name}.img")))?;
            cluster.kill(*place)?;
            let copy =
                Image::attach(self.dir.path(), &name).context("mounting what the cut left")?;
            let link = cluster.node(*place).data_dir();
            fs::remove_file(&link)?;
            symlink(copy.mount().join("data"), &link)?;
            std::mem::replace(&mut self.images[*place], copy).discard()?;
        }
        Ok(())
    }
}
