//! What a server process costs: CPU and memory from `/proc/<pid>`, bytes and flushes from the
//! block device below its data directory.
//!
//! The device's counters see what every process writes there, so a machine that is measured does
//! nothing else. They are the honest ones: the per-process byte counter charges a buffered write of
//! a few bytes with a whole folio. The device is synced before each reading, so that what an
//! operation left in the page cache counts too.

mod disk;
mod machine;
mod process;

pub(crate) use disk::{Device, Written};
pub(crate) use machine::{Machine, Others};
pub(crate) use process::{Memory, Process};

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

/// Where the costs of a server show, or those of several together.
pub(crate) struct Probe {
    /// One for each member.
    processes: Vec<Process>,
    /// None when the directory is on no block device, such as tmpfs.
    pub(crate) device: Option<Device>,
}

/// A reading of growing counters.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    cpu: Duration,
    device: disk::Counters,
}

impl Probe {
    pub(crate) fn new(processes: Vec<Process>, data_dir: Option<&Path>) -> Result<Self> {
        Ok(Self { processes, device: data_dir.map(Device::below).transpose()?.flatten() })
    }

    pub(crate) fn mark(&self) -> Result<Mark> {
        let device = self.device.as_ref().map(Device::counters).transpose()?.unwrap_or_default();
        Ok(Mark { cpu: self.cpu()?, device })
    }

    pub(crate) fn cpu_since(&self, mark: &Mark) -> Result<Duration> {
        Ok(self.cpu()? - mark.cpu)
    }

    fn cpu(&self) -> Result<Duration> {
        self.processes.iter().map(|process| process.cpu()).sum()
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let mut sum = Memory::default();
        for process in &self.processes {
            let memory = process.memory()?;
            sum.resident += memory.resident;
            sum.peak += memory.peak;
        }
        Ok(sum)
    }

    /// What the device wrote; works when the process is gone.
    pub(crate) fn written_since(&self, mark: &Mark) -> Result<Option<Written>> {
        let since = |device: &Device| Ok(device.counters()?.since(&mark.device));
        self.device.as_ref().map(since).transpose()
    }
}
