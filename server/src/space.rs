//! Free disk space. The log comes first: a member whose log cannot be written has to end.

use std::path::PathBuf;

use store::wal::Wal;

use crate::limits;

/// The disk that a data directory is on, and the log on it.
#[derive(Clone)]
pub struct Space {
    dir: PathBuf,
    wal: Wal,
    /// Bytes left alone besides the log's next segment.
    margin: u64,
}

/// Why something is not written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} has no room: {needed} bytes have to be free, {free} are", dir.display())]
pub struct NoRoom {
    dir: PathBuf,
    /// What the log needs next is part of it.
    needed: u64,
    free: u64,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    pub free: u64,
    pub all: u64,
}

impl Space {
    pub fn new(dir: PathBuf, wal: Wal) -> Self {
        Self { dir, wal, margin: limits::LOG_MARGIN_BYTES }
    }

    /// `None` if it cannot be found out.
    pub fn disk(&self) -> Option<Disk> {
        let stat = rustix::fs::statvfs(&self.dir).ok()?;
        Some(Disk { free: stat.f_bavail * stat.f_frsize, all: stat.f_blocks * stat.f_frsize })
    }

    /// Whether the disk has room for `bytes` beside what the log needs next. If that cannot be
    /// found out, the disk has to say it.
    pub fn check(&self, bytes: u64) -> Result<(), NoRoom> {
        let Some(Disk { free, .. }) = self.disk() else { return Ok(()) };
        let log = match self.wal.room().spare_ready {
            true => 0,
            false => self.wal.segment_bytes(),
        };
        let needed = bytes.saturating_add(log).saturating_add(self.margin);
        match free >= needed {
            true => Ok(()),
            false => Err(NoRoom { dir: self.dir.clone(), needed, free }),
        }
    }

    pub fn has_room(&self, bytes: u64) -> bool {
        self.check(bytes).is_ok()
    }

    #[cfg(test)]
    pub fn with_margin(mut self, margin: u64) -> Self {
        self.margin = margin;
        self
    }
}
