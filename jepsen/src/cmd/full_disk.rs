//! `kvjepsen full-disk`: a disk without room, and a log that cannot be written.
//!
//! First on a small disk image, filled by writing and from outside: writes that grow are refused
//! with etcd's no-space error before the log fails, and so are snapshots; everything else goes on,
//! and so do writes once there is room, in the same process. Then the log itself fails (system calls
//! of the member fail by `strace`): the member ends, says why, acknowledges nothing that it has not
//! kept, and starts again.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use harness::{NodeOptions, Target};
use rand::Rng;

use crate::campaign::{Campaign, must_run, no_start, small_limits, violation};
use crate::image::{self, Ballast, Image};
use crate::load::Gathered;
use crate::print::progress;
use harness::history::author::Mix;
use harness::history::check::Summary;
use harness::history::facts::{LAST, Operation, Outcome};

const EXAMPLES: &str = "\
Examples:
  kvjepsen full-disk                       both parts
  kvjepsen full-disk --part log --seed 42  only the failing log

Needs root, loop devices and strace.";

const IMAGE_MIB: u64 = 200;
/// Left free by the first ballast, for the load to fill.
const LEFT_BYTES: u64 = 64 << 20;
/// How long the load may take to fill what is left.
const FULL_WITHIN: Duration = Duration::from_secs(180);
/// How long a member may take to notice that there is room again.
const ROOM_WITHIN: Duration = Duration::from_secs(30);
/// Longer than between two steps of a checkpoint, and how long one may take.
const IDLE_FOR: Duration = Duration::from_secs(2);
const IDLE_WITHIN: Duration = Duration::from_secs(60);
/// Written before a log begins to fail, so that there is something to keep.
const HEALTHY_REVISIONS: i64 = 300;
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);
/// How long a member whose log fails may live on under load.
const END_WITHIN: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FullDisk {
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Makes all random choices the same as in another run [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// The server's binary, instead of the one built beside this one
    #[arg(long)]
    program: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Part {
    /// The disk fills up
    Disk,
    /// System calls on the log fail
    Log,
}

/// What fails, from which call of a thread on.
#[derive(Clone, Copy, Debug)]
struct Fault {
    call: &'static str,
    error: &'static str,
    /// What the system calls it.
    text: &'static str,
}

const FAULTS: [Fault; 4] = [
    Fault { call: "fdatasync", error: "EIO", text: "Input/output error" },
    Fault { call: "pwrite64", error: "ENOSPC", text: "No space left on device" },
    Fault { call: "pwrite64", error: "EIO", text: "Input/output error" },
    Fault { call: "fdatasync", error: "ENOSPC", text: "No space left on device" },
];

impl FullDisk {
    pub(crate) fn run(&self) -> Result<String> {
        image::require()?;
        let seed = self.seed.unwrap_or_else(rand::random);
        progress(&format!("full-disk: seed {seed}"));
        let mut total = Summary::default();
        if self.part != Some(Part::Log) {
            total.add(&self.disk(seed)?);
        }
        if self.part != Some(Part::Disk) {
            for fault in FAULTS {
                let what = format!("{} fails with {}", fault.call, fault.error);
                total.add(&self.log(seed, fault).context(what)?);
            }
        }
        let Summary { acknowledged, refused, unknown, .. } = total;
        Ok(format!(
            "{acknowledged} writes acknowledged and found, {refused} refused, {unknown} unanswered; \
             seed {seed}"
        ))
    }

    fn options(&self) -> NodeOptions {
        NodeOptions { program: self.program.clone(), ..small_limits(Target::Kvd) }
    }

    fn disk(&self, seed: u64) -> Result<Summary> {
        let dir = tempfile::Builder::new().prefix("kvjepsen-").tempdir()?;
        let image = Image::create(dir.path(), "disk", IMAGE_MIB)?;
        let campaign = Campaign::start(self.options().dir(image.mount()), seed)?;
        let mut disk = Disk {
            campaign,
            image: &image,
            total: Summary::default(),
            round: 0,
            refused_snapshots: 0,
        };
        let result = disk.run();
        if result.is_err() {
            progress(&disk.campaign.node.log_tail());
        }
        // Nobody may be on the image when it is unmounted.
        disk.campaign.node.kill()?;
        result.map(|()| disk.total)
    }

    /// A member whose log fails while it is written to.
    fn log(&self, seed: u64, fault: Fault) -> Result<Summary> {
        let mut campaign = Campaign::start(self.options(), seed)?;
        let mut rng = campaign.rng(1);
        let load = campaign.load(1, Mix::default())?;
        campaign.wait_revision(HEALTHY_REVISIONS, WRITTEN_WITHIN)?;
        let mut gathered = campaign.runtime.block_on(load.finish());
        campaign.accept(&gathered)?;
        let mut total = campaign.check(&mut gathered, &mut rng)?;
        campaign.node.stop()?;

        let Fault { call, error, text } = fault;
        let first = rng.random_range(60..300);
        progress(&format!("log: {call} number {first} and later of each thread fail: {error}"));
        campaign.node.options_mut().wrapper = [
            "strace",
            "-D",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={call}:error={error}:when={first}+"),
        ]
        .map(str::to_owned)
        .to_vec();
        let log_before = campaign.node.log().len();
        campaign.node.start_again().context("the member under strace")?;
        let load = campaign.load(2, Mix::default())?;
        load.strike();
        let status = campaign.node.wait_exit(END_WITHIN);
        let status = status.map_err(|_| violation("the member goes on with a log that fails"))?;
        let mut gathered = campaign.runtime.block_on(load.abandon());
        let said = campaign.node.log().split_off(log_before);
        if status.success() || !said.lines().any(|line| line.contains(text)) {
            let tail = campaign.node.log_tail();
            bail!(violation(format!("it ended with {status} and did not say '{text}'\n{tail}")));
        }
        let reason = said.lines().find(|line| line.contains(text)).unwrap_or_default();
        progress(&format!("log: ended with {status}: {reason}"));

        campaign.node.options_mut().wrapper.clear();
        let again = campaign.node.start_again();
        again.map_err(|error| no_start(&error))?;
        let summary = campaign.check(&mut gathered, &mut rng)?;
        progress(&format!(
            "log: {} acknowledged, {} unanswered, started again: ok",
            summary.acknowledged, summary.unknown
        ));
        total.add(&summary);
        campaign.node.stop()?;
        Ok(total)
    }
}

/// The first part.
struct Disk<'a> {
    campaign: Campaign,
    image: &'a Image,
    total: Summary,
    round: u64,
    refused_snapshots: u64,
}

impl Disk<'_> {
    fn run(&mut self) -> Result<()> {
        let usual = self.work(Mix::default(), Duration::from_millis(500))?;
        self.check("with room", usual)?;
        let pid = self.campaign.node.pid();

        let ballast = self.ballast(LEFT_BYTES)?;
        let growing = Mix { keys: 50_000, compact: false, deletions: 0, ..Mix::default() };
        let gathered = self.fill(growing)?;
        self.probe_full(gathered, "full by writing")?;

        self.delete_everything()?;

        drop(ballast);
        self.wait_room(ROOM_WITHIN, "the disk has room")?;
        let usual = self.work(Mix::default(), Duration::from_millis(500))?;
        self.check("writing again", usual)?;
        // Room that is gone in the middle of a checkpoint ends the member, as it may.
        self.wait_idle()?;
        let ballast = self.ballast(0)?;
        let gathered = self.fill(Mix::default())?;
        self.probe_full(gathered, "full from outside, to the last byte")?;
        if self.refused_snapshots == 0 {
            bail!(violation("a snapshot was taken whenever the disk was full"));
        }
        drop(ballast);
        self.wait_room(ROOM_WITHIN, "the disk has room again")?;
        if let Err(failure) = self.campaign.snapshot()? {
            bail!(violation(format!("no snapshot though there is room: {failure}")));
        }
        let usual = self.work(Mix::default(), Duration::from_millis(500))?;
        self.check("room from outside", usual)?;
        if self.campaign.node.pid() != pid {
            bail!(violation("the member was not the same process all the time"));
        }
        self.campaign.node.kill()?;
        self.campaign.node.start_again()?;
        self.check("after kill -9", Gathered::default())
    }

    fn ballast(&self, left: u64) -> Result<Ballast> {
        let ballast = Ballast::leave(self.image.mount(), left)?;
        progress(&format!("disk: {} MiB free", self.image.free_bytes()? >> 20));
        Ok(ballast)
    }

    /// Waits until the member writes nothing for a while.
    fn wait_idle(&self) -> Result<()> {
        let pid = self.campaign.node.pid().context("the member runs")?;
        let path = format!("/proc/{pid}/io");
        let written = || -> Result<Option<String>> {
            let io = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            Ok(io.lines().find(|line| line.starts_with("write_bytes:")).map(str::to_owned))
        };
        let deadline = Instant::now() + IDLE_WITHIN;
        while Instant::now() < deadline {
            let before = written()?;
            sleep(IDLE_FOR);
            if written()? == before {
                return Ok(());
            }
        }
        bail!(violation(format!("the member still writes after {IDLE_WITHIN:?} without clients")))
    }

    /// Load that must not fail.
    fn work(&mut self, mix: Mix, time: Duration) -> Result<Gathered> {
        self.round += 1;
        let load = self.campaign.load(self.round, mix)?;
        sleep(time);
        let gathered = self.campaign.runtime.block_on(load.finish());
        self.campaign.accept(&gathered)?;
        Ok(gathered)
    }

    /// Load until writes are refused for lack of space, and a little longer.
    fn fill(&mut self, mix: Mix) -> Result<Gathered> {
        self.round += 1;
        let load = self.campaign.load(self.round, mix)?;
        let deadline = Instant::now() + FULL_WITHIN;
        while load.no_space() < 100 {
            must_run(&mut self.campaign.node, "when the disk was full")?;
            if Instant::now() > deadline {
                bail!(violation(format!("no write was refused within {FULL_WITHIN:?}")));
            }
            sleep(Duration::from_millis(20));
        }
        let gathered = self.campaign.runtime.block_on(load.finish());
        self.campaign.accept(&gathered)?;
        must_run(&mut self.campaign.node, "when the disk was full")?;
        Ok(gathered)
    }

    /// What must work, and what must not, on a full disk. The checks themselves read and watch.
    fn probe_full(&mut self, gathered: Gathered, when: &str) -> Result<()> {
        self.check(when, gathered)?;
        let mut gathered = Gathered::default();
        let (first, last) = (Operation::put(1, 500), Operation::put(2, 500));
        let delete = |first, last| Operation::Delete { first, last };
        let calls = [
            ("a put", vec![first], false),
            ("a transaction that puts", vec![first, last], false),
            ("a deletion", vec![delete(0, 20)], true),
            ("a transaction that deletes", vec![delete(30, 30), delete(31, 31)], true),
        ];
        for (name, operations, may) in calls {
            let (write, refusal) = self.campaign.write(operations)?;
            let outcome = write.outcome.clone();
            gathered.round.writes.push(write);
            let fits = match refusal {
                None => may,
                Some(refusal) => !may && refusal.is_no_space(),
            };
            if !fits {
                bail!(violation(format!("{when}: {name} has the outcome {outcome:?}")));
            }
        }
        self.probe_snapshot(when)?;
        let compaction = self.campaign.compact();
        gathered
            .round
            .compactions
            .push(compaction.map_err(|why| violation(format!("{when}: no compaction: {why:#}")))?);
        self.check(&format!("{when}, probed"), gathered)
    }

    /// Before the last byte there may be room for a file, which then has to be whole.
    fn probe_snapshot(&mut self, when: &str) -> Result<()> {
        let snapshot = self.campaign.snapshot()?;
        must_run(&mut self.campaign.node, "when a snapshot was asked for")?;
        match snapshot {
            Ok(bytes) => progress(&format!("disk: {when}: a snapshot has {} KiB", bytes >> 10)),
            Err(failure) if failure.is_no_space() => {
                self.refused_snapshots += 1;
                progress(&format!("disk: {when}: a snapshot is refused: {failure}"));
            }
            Err(failure) => bail!(violation(format!("{when}: a snapshot fails: {failure}"))),
        }
        Ok(())
    }

    fn delete_everything(&mut self) -> Result<()> {
        let everything = Operation::Delete { first: 0, last: LAST };
        let mut gathered = Gathered::default();
        let (write, _) = self.campaign.write(vec![everything])?;
        if !matches!(write.outcome, Outcome::Applied(_)) {
            bail!(violation(format!("a deletion of everything: {:?}", write.outcome)));
        }
        gathered.round.writes.push(write);
        self.check("everything deleted", gathered)?;
        let mut gathered = Gathered::default();
        gathered.round.compactions.push(self.campaign.compact()?);
        self.check("and compacted", gathered)
    }

    fn wait_room(&mut self, within: Duration, why: &str) -> Result<()> {
        let started = Instant::now();
        let mut gathered = Gathered::default();
        loop {
            let (write, refusal) = self.campaign.write(vec![Operation::put(1, 500)])?;
            gathered.round.writes.push(write);
            match refusal {
                None => break,
                Some(refusal) if started.elapsed() > within => {
                    let free = self.image.free_bytes()? >> 20;
                    let what = format!("{why} {within:?} ago, {free} MiB are free: {refusal}");
                    bail!(violation(what));
                }
                Some(_) => sleep(Duration::from_millis(100)),
            }
        }
        progress(&format!("disk: {why}; writes go on {:.1?} later", started.elapsed()));
        self.check("writes go on", gathered)
    }

    fn check(&mut self, when: &str, mut gathered: Gathered) -> Result<()> {
        self.round += 1;
        let mut rng = self.campaign.rng(self.round);
        let summary = self
            .campaign
            .check(&mut gathered, &mut rng)
            .map_err(|error| error.context(when.to_owned()))?;
        let free = self.image.free_bytes()? >> 20;
        progress(&format!(
            "disk: {when}: {} acknowledged, {} refused, {} reads, {free} MiB free: ok",
            summary.acknowledged, summary.refused, summary.reads
        ));
        self.total.add(&summary);
        Ok(())
    }
}
