//! Counters of the block device that holds a directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The kernel's unit, whatever the device's own sector size is.
const SECTOR_BYTES: u64 = 512;

pub(crate) struct Device {
    /// Any path on the file system, to sync it.
    path: PathBuf,
    major: u32,
    minor: u32,
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    sectors_written: u64,
    flushes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) flushes: u64,
}

impl Counters {
    pub(super) fn since(&self, before: &Self) -> Written {
        let sectors = self.sectors_written - before.sectors_written;
        Written { bytes: sectors * SECTOR_BYTES, flushes: self.flushes - before.flushes }
    }
}

impl Device {
    /// The whole disk below `path`, for flushes are not counted per partition.
    pub(crate) fn below(path: &Path) -> Result<Option<Self>> {
        let stat = rustix::fs::stat(path).with_context(|| format!("stat {}", path.display()))?;
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let Ok(node) = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")) else {
            return Ok(None);
        };
        let disk = match node.parent() {
            Some(parent) if node.join("partition").exists() => parent,
            _ => &node,
        };
        let numbers = fs::read_to_string(disk.join("dev"))?;
        let (major, minor) = numbers.trim().split_once(':').context("a device has two numbers")?;
        let name = disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (major, minor) = (major.parse()?, minor.parse()?);
        Ok(Some(Self { path: path.to_owned(), major, minor, name }))
    }

    /// Syncs the file system, then reads.
    pub(super) fn counters(&self) -> Result<Counters> {
        rustix::fs::syncfs(File::open(&self.path)?)?;
        let stats = fs::read_to_string("/proc/diskstats")?;
        parse(&stats, self.major, self.minor)
            .with_context(|| format!("no flush counter of {} in /proc/diskstats", self.name))
    }
}

fn parse(stats: &str, major: u32, minor: u32) -> Option<Counters> {
    let of_device = |line: &&str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        numbers.next() == Some(Ok(major)) && numbers.next() == Some(Ok(minor))
    };
    let fields: Vec<_> = stats.lines().find(of_device)?.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse().ok();
    Some(Counters { sectors_written: number(9)?, flushes: number(18)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = "\
   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 62390 13091 4250610 21697 11598 36659 4756520 15518 0 12700 37831 5413 24 285120 582 995 32
 254       1 vda1 1 1 1 1 1 1 7 1 0 1 1 1 2 2 5 0 0
";

    #[test]
    fn sectors_and_flushes_of_one_device() {
        let before = parse(STATS, 254, 0).unwrap();
        assert_eq!(before, Counters { sectors_written: 4_756_520, flushes: 995 });
        let after = Counters { sectors_written: 4_756_528, flushes: 1000 };
        assert_eq!(after.since(&before), Written { bytes: 4096, flushes: 5 });
        assert_eq!(parse(STATS, 8, 0), None);
    }
}
