//! The only file that prints: results to stdout, progress to stderr.

use std::io::{self, Write};

use anyhow::Result;

use crate::scenario::Measured;

pub(crate) fn result(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever read the other end has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

pub(crate) fn progress(line: &str) {
    // Progress is not worth failing for.
    let _ = writeln!(io::stderr(), "{line}");
}

/// One run as a few lines.
pub(crate) fn measured(measured: &Measured) -> String {
    let Measured { operations, per_second, failed, unsent, reply_bytes, .. } = measured;
    let latency = measured.latency_us;
    let mut text = format!(
        "operations  {operations} ({per_second:.0}/s), {failed} failed, {unsent} due but not sent\n\
         latency     p50 {:.0} us, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}\n\
         replies     {reply_bytes:.0} B each\n\
         generator   {:.2} us CPU per operation\n",
        latency.p50, latency.p90, latency.p99, latency.p999, latency.max, measured.generator_cpu_us,
    );
    if let Some(cpu) = measured.server_cpu_us {
        text += &format!("server      {cpu:.2} us CPU per operation\n");
    }
    if let Some((resident, peak)) = measured.resident_mb.zip(measured.resident_peak_mb) {
        text += &format!("memory      {resident:.1} MB resident, {peak:.1} MB at most\n");
    }
    if let Some((bytes, flushes)) = measured.device_bytes.zip(measured.flushes) {
        text += &format!("device      {bytes:.0} B and {flushes:.4} flushes per operation\n");
    }
    text
}
