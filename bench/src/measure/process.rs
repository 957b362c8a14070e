//! CPU time and memory of one process, all threads, living and gone.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pid: u32,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }

    pub(crate) fn this() -> Self {
        Self::new(std::process::id())
    }

    /// User and system time so far.
    pub(crate) fn cpu(self) -> Result<Duration> {
        Ok(self.ticks()?.0)
    }

    /// With the time of children that have ended.
    pub(super) fn cpu_with_children(self) -> Result<Duration> {
        let (own, children) = self.ticks()?;
        Ok(own + children)
    }

    fn ticks(self) -> Result<(Duration, Duration)> {
        let stat = self.read("stat")?;
        let (own, children) = cpu_ticks(&stat).context("/proc/<pid>/stat has an unknown form")?;
        Ok((duration(own), duration(children)))
    }

    pub(crate) fn memory(self) -> Result<Memory> {
        let status = self.read("status")?;
        let bytes = |name| kib(&status, name).map(|kib| kib * 1024);
        let (resident, peak) =
            bytes("VmRSS:").zip(bytes("VmHWM:")).context("no VmRSS, no VmHWM")?;
        Ok(Memory { resident, peak })
    }

    fn read(self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }
}

/// CPU time all processes of the machine have used.
pub(super) fn cpu_of_all() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    Ok(duration(busy_ticks(&stat).context("/proc/stat has an unknown form")?))
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs(ticks).div_f64(rustix::param::clock_ticks_per_second() as f64)
}

/// Fields 14 and 15 of `stat`, then 16 and 17 of its children; counted after the command's name,
/// which may hold anything.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let mut both = || Some(times.next()? + times.next()?);
    Some((both()?, both()?))
}

/// User, nice, system, then, after two kinds of idleness, interrupts and what a host took.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let times: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    Some(times.get(..3)?.iter().sum::<u64>() + times.get(5..8)?.iter().sum::<u64>())
}

fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 123 45 6 7 20 0 1 0 780702 3 384";
        assert_eq!(cpu_ticks(stat), Some((168, 13)));
        assert_eq!(cpu_ticks("7 (x) S"), None);
    }

    #[test]
    fn idleness_is_not_busy() {
        assert_eq!(busy_ticks("cpu  100 20 3 5000 600 7 8 9 0 0\ncpu0 1 2 3"), Some(147));
        assert_eq!(busy_ticks("cpu  100 20"), None);
    }

    #[test]
    fn memory_lines() {
        let status = "VmPeak:\t 10 kB\nVmHWM:\t   3300 kB\nVmRSS:\t   3128 kB\n";
        assert_eq!(kib(status, "VmHWM:"), Some(3300));
        assert_eq!(kib(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_both() {
        assert!(Process::this().memory().unwrap().resident > 0);
        assert!(Process::this().cpu().unwrap() < Duration::from_secs(3600));
    }
}
