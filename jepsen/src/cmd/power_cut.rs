//! `kvjepsen power-cut`: the disk keeps what was flushed to it, and everything else is gone.
//!
//! The data directory is on ext4 in an image file behind a loop device. The member is stopped
//! (SIGSTOP) at a random moment, the image file is copied, and a new member starts on the copy;
//! the old one and its file system are never seen again.
//!
//! Why that is a power cut: what a program writes stays in the page cache of the mounted file
//! system until it is synced or the kernel writes it back, and only then does the loop device get
//! it and write it to the image file. So the copy lacks exactly what was not flushed, the journal
//! of the file system is as it was, and mounting the copy recovers it as after a real cut. The copy
//! is read through the page cache of the *image file*, which belongs to the outer file system: what
//! is there has reached the device and counts as written. The inner file system must not be
//! synced, which is why nothing is frozen or unmounted before, and a copy during which the device
//! was written to (the kernel writes back when it likes) is made again: no moment looks like that.
//! Each run shows first that this holds here: of two files only the flushed one is in a copy.
//!
//! The loop device has no cache of its own that a cut could lose: what it was given and not yet
//! told to flush is in the copy. A server that writes and never flushes is caught, one that relies
//! on the order of two flushes is not.

mod members;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::{Node, Target};
use rand::Rng;
use tempfile::TempDir;

use crate::blow::Blow;
use crate::campaign::{Campaign, must_run, no_start, small_limits};
use crate::common::Common;
use crate::image::{self, Image};
use crate::print::progress;
use harness::history::author::Mix;
use harness::history::check::Summary;

const EXAMPLES: &str = "\
Examples:
  kvjepsen power-cut                                50 rounds, a new seed
  kvjepsen power-cut --rounds 3 --seed 42           the same choices again
  kvjepsen power-cut --members 3 --rounds 20        all of a cluster at once, or one of them
  kvjepsen power-cut --server-arg=--unsafe-no-fsync  must find losses

Needs root and loop devices.";

/// Room for what a member keeps under small limits, and for etcd's preallocated log.
const IMAGE_MIB: u64 = 384;
/// More than an inode could hold by itself.
const PROOF: &[u8] = &[7; 64 << 10];
/// On average; fewer, and the run was not worth making.
const WRITES_PER_ROUND_MIN: u64 = 20;
/// How long threads may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PowerCut {
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// More than one: a cluster, whose members mostly lose power all at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=5))]
    members: u64,
    #[arg(long, default_value = "kvd")]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// The member and the disk it is on.
struct Rig {
    campaign: Campaign,
    image: Image,
    generation: u64,
    dir: TempDir,
}

impl PowerCut {
    pub(crate) fn run(&self) -> Result<String> {
        image::require()?;
        let seed = self.common.seed("power-cut");
        if self.members > 1 {
            return members::run(self, usize::try_from(self.members)?, seed);
        }
        let mut rig = self.set_up(seed)?;
        let mut total = Summary::default();
        for round in 1..=self.rounds {
            match rig.round(round) {
                Ok(summary) => total.add(&summary),
                Err(error) => {
                    let replay = format!("kvjepsen power-cut --rounds {round} --seed {seed}");
                    progress(&rig.leave_behind());
                    return Err(error.context(format!("round {round} (again: {replay})")));
                }
            }
        }
        rig.campaign.node.stop()?;
        ensure!(
            total.acknowledged >= self.rounds * WRITES_PER_ROUND_MIN,
            "only {} writes were acknowledged in {} rounds: too few to say anything",
            total.acknowledged,
            self.rounds
        );
        Ok(format!(
            "{} rounds, {} writes acknowledged, {} unanswered ({} of them happened), {} reads, {} \
             revisions; seed {seed}",
            self.rounds,
            total.acknowledged,
            total.unknown,
            total.unknown_found,
            total.reads,
            total.revisions
        ))
    }

    fn set_up(&self, seed: u64) -> Result<Rig> {
        let dir = tempfile::Builder::new().prefix("kvjepsen-").tempdir()?;
        let image = Image::create(dir.path(), "disk-0", IMAGE_MIB)?;
        fs::create_dir(image.mount().join("data"))?;
        let options = self.common.node(small_limits(self.target)).dir(dir.path());
        symlink(image.mount().join("data"), dir.path().join(format!("{}.data", options.name)))?;
        prove_cut(&image, dir.path())?;
        let campaign = Campaign::start(options, seed)?;
        Ok(Rig { campaign, image, generation: 0, dir })
    }
}

impl Rig {
    fn round(&mut self, round: u64) -> Result<Summary> {
        let mut rng = self.campaign.rng(round);
        let load = self.campaign.load(round, Mix::default())?;
        let busy = Duration::from_millis(rng.random_range(100..1400));
        let blow = Blow::draw(&mut rng);
        sleep(busy);
        must_run(&mut self.campaign.node, "under load")?;
        load.strike();
        blow.prepare(&self.campaign.node)?;
        let copies = self.cut()?;
        let mut gathered = self.campaign.runtime.block_on(load.abandon());
        self.campaign.accept(&gathered)?;
        if let Blow::Starting(after) = blow {
            self.campaign.node.spawn()?;
            sleep(after);
            self.cut()?;
        }
        let started = Instant::now();
        let node = &mut self.campaign.node;
        node.start_again().map_err(|error| no_start(&error))?;
        let took = started.elapsed();
        let summary = self.campaign.check(&mut gathered, &mut rng)?;
        progress(&format!(
            "round {round}: cut {blow:?} after {busy:?}, copied at attempt {copies}; up in \
             {took:.0?}; {} writes acknowledged, {} open, {} reads, {} revisions: ok",
            summary.acknowledged, summary.unknown, summary.reads, summary.revisions,
        ));
        Ok(summary)
    }

    /// Stops the member, and replaces the disk by a copy of what has reached it.
    fn cut(&mut self) -> Result<u32> {
        let node = &mut self.campaign.node;
        if node.is_running() {
            node.pause()?;
            wait_stopped(node)?;
        }
        self.generation += 1;
        let name = format!("disk-{}", self.generation);
        let attempts = self.image.copy_device(&self.dir.path().join(format!("{name}.img")))?;
        node.kill()?;
        let copy = Image::attach(self.dir.path(), &name).context("mounting what the cut left")?;
        let link = node.data_dir();
        fs::remove_file(&link)?;
        symlink(copy.mount().join("data"), &link)?;
        std::mem::replace(&mut self.image, copy).discard()?;
        Ok(attempts)
    }

    /// Images cannot be kept mounted; the file says it all.
    fn leave_behind(&mut self) -> String {
        let _ = self.campaign.node.kill();
        let tail = self.campaign.node.log_tail();
        let kept = std::env::temp_dir().join(format!("kvjepsen-{}.img", std::process::id()));
        let file = self.dir.path().join(format!("disk-{}.img", self.generation));
        match image::copy_sparse(&file, &kept) {
            Ok(()) => format!("{tail}\nthe disk is kept in {}", kept.display()),
            Err(error) => format!("{tail}\nthe disk could not be kept: {error}"),
        }
    }
}

/// Shows that a copy of this disk is what a power cut leaves: it has the bytes that were flushed,
/// and lacks those that were only written.
fn prove_cut(image: &Image, dir: &Path) -> Result<()> {
    let (flushed, written) = (image.mount().join("flushed"), image.mount().join("written"));
    fs::write(&flushed, PROOF)?;
    File::open(&flushed)?.sync_all()?;
    fs::write(&written, PROOF)?;
    image.copy_device(&dir.join("proof.img"))?;
    let copy = Image::attach(dir, "proof")?;
    let in_copy = |name: &str| fs::read(copy.mount().join(name)).is_ok_and(|it| it == PROOF);
    ensure!(in_copy("flushed"), "a copy of the disk lacks what was flushed: this is no power cut");
    ensure!(
        !in_copy("written"),
        "a copy of the disk has what was not flushed: nothing would be lost"
    );
    copy.discard()?;
    fs::remove_file(flushed)?;
    Ok(fs::remove_file(written)?)
}

/// SIGSTOP reaches a thread only when it leaves the kernel: until then it might still acknowledge
/// a write that the copy lacks.
fn wait_stopped(node: &Node) -> Result<()> {
    let pid = node.pid().context("the member runs")?;
    let deadline = Instant::now() + STOP_WITHIN;
    loop {
        let mut all = true;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in parentheses and may hold anything.
            let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next());
            all &= matches!(state, Some('T' | 't' | 'Z' | 'X') | None);
        }
        if all {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "threads of {pid} do not stop");
        sleep(Duration::from_millis(1));
    }
}
