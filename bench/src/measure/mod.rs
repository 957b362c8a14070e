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
pub(crate) use process::Process;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

/// Where the costs of one server show.
pub(crate) struct Probe {
    pub(crate) process: Process,
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
    pub(crate) fn new(process: Process, data_dir: Option<&Path>) -> Result<Self> {
        Ok(Self { process, device: data_dir.map(Device::below).transpose()?.flatten() })
    }

    pub(crate) fn mark(&self) -> Result<Mark> {
        let device = self.device.as_ref().map(Device::counters).transpose()?.unwrap_or_default();
        Ok(Mark { cpu: self.process.cpu()?, device })
    }

    pub(crate) fn cpu_since(&self, mark: &Mark) -> Result<Duration> {
        Ok(self.process.cpu()? - mark.cpu)
    }

    /// What the device wrote; works when the process is gone.
    pub(crate) fn written_since(&self, mark: &Mark) -> Result<Option<Written>> {
        let since = |device: &Device| Ok(device.counters()?.since(&mark.device));
        self.device.as_ref().map(since).transpose()
    }
}
