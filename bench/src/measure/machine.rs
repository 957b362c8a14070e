//! What a table of numbers needs beside it to mean something.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use super::process::cpu_of_all;
use super::{Device, Process};

/// Appends of the disk check, each of the size of a small batch of puts.
const APPENDS: usize = 100;
const APPEND_BYTES: usize = 2300;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mb: u64,
    pub(crate) kernel: String,
    /// Block device of the data directories; none on tmpfs.
    pub(crate) device: Option<String>,
    /// Median time of an append with `fdatasync`, in microseconds.
    pub(crate) fdatasync_us: f64,
    /// UTC.
    pub(crate) date: String,
}

impl Machine {
    pub(crate) fn look(dir: &Path) -> Result<Self> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (cpuinfo, meminfo) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let field = |text: &str, names: &[&str]| {
            let line = text.lines().find(|line| names.iter().any(|name| line.starts_with(name)));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
        };
        let memory = field(&meminfo, &["MemTotal"]).unwrap_or_default();
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        Ok(Self {
            // "Model" names a Raspberry Pi, whose cores have no model name.
            cpu: field(&cpuinfo, &["model name", "Model"]).unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism()?.get(),
            memory_mb: kib * 1024 / 1_000_000,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            device: Device::below(dir)?.map(|device| device.name),
            fdatasync_us: fdatasync_us(dir)?,
            date: date(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
        })
    }
}

/// Watches what the rest of the machine does meanwhile.
pub(crate) struct Others {
    start: Instant,
    all: Duration,
    ours: Duration,
}

impl Others {
    pub(crate) fn watch() -> Result<Self> {
        let ours = Process::this().cpu_with_children()?;
        Ok(Self { start: Instant::now(), all: cpu_of_all()?, ours })
    }

    /// CPU that neither we nor the servers we started and stopped have used, in cores.
    pub(crate) fn cores(&self) -> Result<f64> {
        let all = cpu_of_all()? - self.all;
        let ours = Process::this().cpu_with_children()? - self.ours;
        Ok(all.saturating_sub(ours).as_secs_f64() / self.start.elapsed().as_secs_f64())
    }
}

fn fdatasync_us(dir: &Path) -> Result<f64> {
    let path = dir.join("fdatasync-check");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..APPENDS {
        let start = Instant::now();
        file.write_all(&[0x5a; APPEND_BYTES])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(times[APPENDS / 2].as_secs_f64() * 1e6)
}

/// `YYYY-MM-DD HH:MM` of a Unix time.
fn date(seconds: u64) -> String {
    let (mut days, minutes) = (seconds / 86_400, seconds % 86_400 / 60);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02}", days + 1, minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_400), "2000-02-29 00:00");
        assert_eq!(date(1_767_225_599), "2025-12-31 23:59");
        assert_eq!(date(1_795_245_300), "2026-11-21 07:15");
    }
}
