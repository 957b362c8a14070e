//! `kvjepsen one-row`: a key overwritten a thousand times costs the disk its log and one row.
//!
//! On a disk image of its own, by the block layer's counters of the loop device: they count what
//! reached the device, whoever wrote it. A checkpoint happens at a clean stop, so each phase is one
//! life of the server: some puts of one key, a compaction, and the stop, with everything that the file
//! system still held written out in between. Three phases:
//!
//! 1. one put: what a checkpoint of one row costs, the file system's own writes included;
//! 2. a thousand puts, compacted: must cost the same, besides the log;
//! 3. a thousand puts, not compacted: must cost a thousand rows, or the measurement is blind.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::{Client, Node, NodeOptions, Target};
use proto::etcdserverpb::{CompactionRequest, PutRequest};

use crate::campaign::violation;
use crate::image::{self, Image};
use crate::print::progress;

const EXAMPLES: &str = "\
Examples:
  kvjepsen one-row

Needs root and loop devices.";

const IMAGE_MIB: u64 = 256;
const PUTS: u64 = 1000;
/// A thousand of them stand out, and their log fits into one segment.
const VALUE_BYTES: u64 = 4000;
const PAGE_BYTES: u64 = 4096;
/// What the file system's journal and the engine's map may differ by from one checkpoint to another.
const NOISE_BYTES: u64 = 256 << 10;
/// A log segment that is made ready ahead; at most one falls into a phase.
const SEGMENT_BYTES: u64 = 16 << 20;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct OneRow {
    /// The server's binary, instead of the one built beside this one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Bytes that reached the device.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// While the puts were made.
    log: u64,
    /// While the server stopped.
    checkpoint: u64,
}

impl OneRow {
    pub(crate) fn run(&self) -> Result<String> {
        image::require()?;
        let dir = tempfile::Builder::new().prefix("kvjepsen-").tempdir()?;
        let image = Image::create(dir.path(), "disk", IMAGE_MIB)?;
        let mut options = NodeOptions::new(Target::Kvd).dir(image.mount());
        options.program = self.program.clone();
        let mut node = Node::prepare(options)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut phase = |puts, compact| -> Result<Cost> {
            node.start_again()?;
            image.sync()?;
            let start = image.counters()?.bytes_written;
            runtime.block_on(overwrite(&node, puts, compact))?;
            image.sync()?;
            let written = image.counters()?.bytes_written;
            node.stop()?;
            image.sync()?;
            let stopped = image.counters()?.bytes_written;
            let cost = Cost { log: written - start, checkpoint: stopped - written };
            progress(&format!(
                "{puts} puts{}: {} KiB with the log, {} KiB more with the checkpoint",
                if compact { ", compacted" } else { "" },
                cost.log >> 10,
                cost.checkpoint >> 10
            ));
            Ok(cost)
        };
        // The first life makes the files.
        phase(1, true)?;
        let (one, many, kept) = (phase(1, true)?, phase(PUTS, true)?, phase(PUTS, false)?);
        node.kill()?;
        judge(one, many, kept)?;
        Ok(format!(
            "{PUTS} puts of {VALUE_BYTES} bytes to one key: {} KiB with the log; the checkpoint \
             {} KiB, that of one put {} KiB, that of all versions {} KiB",
            many.log >> 10,
            many.checkpoint >> 10,
            one.checkpoint >> 10,
            kept.checkpoint >> 10
        ))
    }
}

fn judge(one: Cost, many: Cost, kept: Cost) -> Result<()> {
    let rows = PUTS * VALUE_BYTES;
    ensure!(
        many.log >= rows && kept.log >= rows,
        "the device's counters miss writes: {PUTS} puts made {many:?} and {kept:?}"
    );
    ensure!(
        kept.checkpoint >= one.checkpoint + rows / 2,
        "the checkpoint of {PUTS} rows ({kept:?}) does not stand out from that of one ({one:?})"
    );
    // A record begins and ends within pages that are written again with its neighbours.
    let log_max = PUTS * (VALUE_BYTES.next_multiple_of(PAGE_BYTES) + 2 * PAGE_BYTES);
    if many.log > log_max + SEGMENT_BYTES + NOISE_BYTES {
        bail!(violation(format!("{} KiB were written for {PUTS} puts", many.log >> 10)));
    }
    let checkpoint_max = one.checkpoint + VALUE_BYTES.next_multiple_of(PAGE_BYTES) + NOISE_BYTES;
    if many.checkpoint > checkpoint_max {
        bail!(violation(format!(
            "the checkpoint after {PUTS} puts wrote {} KiB, after one {} KiB",
            many.checkpoint >> 10,
            one.checkpoint >> 10
        )));
    }
    Ok(())
}

async fn overwrite(node: &Node, puts: u64, compact: bool) -> Result<()> {
    let mut client = Client::connect(&node.endpoint()).await?;
    let mut revision = 0;
    // Incompressible, and another one every time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ puts;
    for _ in 0..puts {
        let mut value = Vec::new();
        while value.len() < VALUE_BYTES as usize {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            value.extend_from_slice(&state.to_le_bytes());
        }
        let request = PutRequest { key: b"key".to_vec(), value, ..PutRequest::default() };
        let answer = client.kv.put(request).await.context("a put")?.into_inner();
        revision = answer.header.context("an answer has a header")?.revision;
    }
    if compact {
        client.kv.compact(CompactionRequest { revision, physical: true }).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_log_and_one_row_are_accepted() {
        let log = 6 << 20;
        let (one, all) = (Cost { log: 8192, checkpoint: 100 << 10 }, 5 << 20);
        let kept = Cost { log, checkpoint: all };
        assert!(judge(one, Cost { log, checkpoint: 110 << 10 }, kept).is_ok());
        // All versions reach the device.
        assert!(judge(one, Cost { log, checkpoint: all }, kept).is_err());
        // Each put costs more than the log.
        assert!(judge(one, Cost { log: 64 << 20, checkpoint: 110 << 10 }, kept).is_err());
        // Counters that count nothing prove nothing.
        assert!(judge(one, Cost { log: 0, checkpoint: 0 }, kept).is_err());
        assert!(judge(one, Cost { log, checkpoint: 110 << 10 }, one).is_err());
    }
}
