//! `kvjepsen memory`: much is written over time into a small working set; memory stays bounded.
//!
//! Writers overwrite random keys, and somebody compacts as the Kubernetes API server does: at every
//! turn up to the revision of the turn before. Judged is the kernel's own record of the most memory
//! that the process ever held (`VmHWM`), so that no peak falls between two looks.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::{Client, Node, NodeOptions, Target};
use proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::campaign::violation;
use crate::common::{Common, runtime};
use crate::print::progress;
use harness::history::wire::Failure;

const EXAMPLES: &str = "\
Examples:
  kvjepsen memory                                      5 GB, as it should be run: a release build
  kvjepsen memory --total-mb 500 --compact-every-s 2   a short look
  kvjepsen memory --target etcd                        what the original needs

Take a release build (cargo build --release): others use more memory.";

const PROGRESS_EVERY: Duration = Duration::from_secs(15);
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// A server that is busy is asked again after this.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Fewer compactions, and the run was not what its name says.
const COMPACTIONS_MIN: u64 = 5;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Memory {
    /// Megabytes of values to write
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..))]
    total_mb: u64,
    /// Megabytes of live values
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    working_set_mb: u64,
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(64..=1_000_000))]
    value_bytes: u64,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
    clients: u64,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    compact_every_s: u64,
    /// Megabytes of memory that the server may hold
    #[arg(long, default_value_t = 200)]
    rss_max_mb: u64,
    #[arg(long, default_value = "kvd")]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// What the tasks of a run share.
#[derive(Debug, Default)]
struct Tally {
    started: AtomicU64,
    written_bytes: AtomicU64,
    busy: AtomicU64,
    revision: AtomicI64,
    compactions: AtomicU64,
    done: AtomicBool,
}

impl Memory {
    pub(crate) fn run(&self) -> Result<String> {
        let seed = self.common.seed("memory");
        let options = self.common.node(NodeOptions::new(self.target));
        let mut node = Node::start(options)?;
        let runtime = runtime()?;
        let started = Instant::now();
        let result = runtime.block_on(self.pour(&node, seed));
        if result.is_err() {
            progress(&node.log_tail());
        }
        let (tally, typical_mb) = result?;
        let took = started.elapsed();
        let peak_mb = memory_mb(&node, "VmHWM:")?;
        node.stop()?;
        let gigabytes = tally.written_bytes.load(Ordering::Relaxed) as f64 / 1e9;
        let compactions = tally.compactions.load(Ordering::Relaxed);
        let what = format!(
            "{gigabytes:.2} GB written into {} MB in {took:.0?}, {compactions} compactions, {} \
             puts had to wait; memory: median {typical_mb} MB, peak {peak_mb} MB; seed {seed}",
            self.working_set_mb,
            tally.busy.load(Ordering::Relaxed),
        );
        ensure!(compactions >= COMPACTIONS_MIN, "{what}: too few compactions to say anything");
        if peak_mb >= self.rss_max_mb {
            bail!(violation(format!("{what}; allowed are {} MB", self.rss_max_mb)));
        }
        Ok(what)
    }

    /// Writes everything; the median of the memory held meanwhile.
    async fn pour(&self, node: &Node, seed: u64) -> Result<(Arc<Tally>, u64)> {
        let tally = Arc::new(Tally::default());
        let keys = (self.working_set_mb * 1_000_000).div_ceil(self.value_bytes);
        let puts = (self.total_mb * 1_000_000).div_ceil(self.value_bytes).max(keys);
        let mut writers = JoinSet::new();
        for number in 0..self.clients {
            let client = Client::connect(&node.endpoint()).await?;
            let rng = StdRng::seed_from_u64(seed ^ number);
            let job = Job { keys, puts, value_bytes: self.value_bytes as usize };
            writers.spawn(write(client, rng, job, tally.clone()));
        }
        let client = Client::connect(&node.endpoint()).await?;
        let every = Duration::from_secs(self.compact_every_s);
        let compactor = tokio::spawn(compact(client, every, tally.clone()));
        let (mut samples, mut reported) = (Vec::new(), Instant::now());
        while !writers.is_empty() {
            tokio::select! {
                Some(done) = writers.join_next() => done??,
                () = tokio::time::sleep(SAMPLE_EVERY) => samples.push(memory_mb(node, "VmRSS:")?),
            }
            if reported.elapsed() > PROGRESS_EVERY {
                reported = Instant::now();
                progress(&format!(
                    "{} MB written, memory {} MB",
                    tally.written_bytes.load(Ordering::Relaxed) / 1_000_000,
                    memory_mb(node, "VmRSS:")?
                ));
            }
        }
        tally.done.store(true, Ordering::Relaxed);
        compactor.await??;
        let mut client = Client::connect(&node.endpoint()).await?;
        let found = client.kv.range(count_all()).await?.into_inner().count;
        if found != i64::try_from(keys)? {
            bail!(violation(format!("{found} keys are there, {keys} were written")));
        }
        samples.sort_unstable();
        Ok((tally, samples.get(samples.len() / 2).copied().unwrap_or_default()))
    }
}

#[derive(Clone, Copy)]
struct Job {
    keys: u64,
    puts: u64,
    value_bytes: usize,
}

/// First every key in order, all writers together, then random ones.
async fn write(mut client: Client, mut rng: StdRng, job: Job, tally: Arc<Tally>) -> Result<()> {
    let mut value = vec![0; job.value_bytes];
    rng.fill(&mut value[..]);
    loop {
        let number = tally.started.fetch_add(1, Ordering::Relaxed);
        if number >= job.puts {
            return Ok(());
        }
        let key = if number < job.keys { number } else { rng.random_range(0..job.keys) };
        value[..8].copy_from_slice(&number.to_le_bytes());
        let request = PutRequest {
            key: format!("/registry/things/{key:08}").into(),
            value: value.clone(),
            ..PutRequest::default()
        };
        loop {
            match client.kv.put(request.clone()).await.map_err(Failure::from) {
                Ok(answer) => {
                    let header = answer.into_inner().header.context("an answer has a header")?;
                    tally.revision.fetch_max(header.revision, Ordering::Relaxed);
                    break;
                }
                Err(refusal) if refusal.is_busy() => {
                    tally.busy.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(failure) => return Err(violation(format!("a put failed: {failure}"))),
            }
        }
        tally.written_bytes.fetch_add(job.value_bytes as u64, Ordering::Relaxed);
    }
}

async fn compact(mut client: Client, every: Duration, tally: Arc<Tally>) -> Result<()> {
    let (mut revision, mut turn) = (0, Instant::now());
    while !tally.done.load(Ordering::Relaxed) {
        tokio::time::sleep(SAMPLE_EVERY).await;
        if turn.elapsed() < every {
            continue;
        }
        turn = Instant::now();
        let before = std::mem::replace(&mut revision, tally.revision.load(Ordering::Relaxed));
        if before > 0 {
            let request = CompactionRequest { revision: before, physical: false };
            match client.kv.compact(request).await.map_err(Failure::from) {
                Ok(_) => _ = tally.compactions.fetch_add(1, Ordering::Relaxed),
                Err(refusal) if refusal.is_busy() || refusal.is_compacted() => {}
                Err(failure) => return Err(violation(format!("a compaction failed: {failure}"))),
            }
        }
    }
    Ok(())
}

fn count_all() -> RangeRequest {
    RangeRequest {
        key: b"/registry/".to_vec(),
        range_end: b"/registry0".to_vec(),
        count_only: true,
        ..RangeRequest::default()
    }
}

/// A number of the server's `/proc/<pid>/status`, in megabytes.
fn memory_mb(node: &Node, field: &str) -> Result<u64> {
    let pid = node.pid().context("the server runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|_| violation("the server has ended by itself"))?;
    parse_mb(&status, field).with_context(|| format!("no {field} of process {pid}"))
}

fn parse_mb(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::parse_mb;

    #[test]
    fn memory_is_read_from_the_kernels_words() {
        let status = "Name:\tkvd\nVmHWM:\t  200000 kB\nVmRSS:\t  100000 kB\n";
        assert_eq!(parse_mb(status, "VmHWM:"), Some(204));
        assert_eq!(parse_mb(status, "VmRSS:"), Some(102));
        assert_eq!(parse_mb(status, "VmSwap:"), None);
    }
}
