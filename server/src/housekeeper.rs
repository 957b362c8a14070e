//! Work that nobody waits for: compaction, checkpoints, snapshots, free space.
//!
//! One thread, `kvd-keeper`. It looks around every half second and when it is poked. It writes
//! only when rows or log bytes have gathered: an idle member leaves its card alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use store::Fatal;
use store::wal::Wal;
use tokio::sync::watch;

use crate::limits;
use crate::replica::{Current, Shared};
use crate::snapshots::Snapshots;

/// Wakes the housekeeper.
#[derive(Clone)]
pub struct Poke(Sender<Errand>);

enum Errand {
    Look,
    Stop,
}

impl Poke {
    pub fn new() -> (Self, Errands) {
        let (sender, receiver) = channel();
        (Self(sender), Errands(receiver))
    }

    pub fn look(&self) {
        // The keeper is gone only when the process stops.
        let _ = self.0.send(Errand::Look);
    }

    pub fn stop(&self) {
        let _ = self.0.send(Errand::Stop);
    }
}

/// The housekeeper's end of its pokes.
pub struct Errands(Receiver<Errand>);

pub struct Housekeeper {
    pub data_dir: PathBuf,
    pub wal: Wal,
    pub shared: Arc<Shared>,
    pub snapshots: Arc<Snapshots>,
    /// Free bytes that only the log may use.
    pub disk_reserve: Box<dyn Fn(u64) -> u64 + Send>,
    pub snapshot_log_bytes: u64,
    /// Asks the raft core for a snapshot.
    pub request_snapshot: watch::Sender<u64>,
    /// Tells the raft core how far the log may go.
    pub purge: watch::Sender<u64>,
    /// The compaction whose removal is complete.
    pub compacted: watch::Sender<i64>,
}

impl Housekeeper {
    pub fn spawn(self, errands: Errands) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("kvd-keeper".into()).spawn(move || {
            if let Err(fatal) = self.run(&errands.0) {
                crate::stop::fatal(&fatal);
            }
        })
    }

    fn run(mut self, errands: &Receiver<Errand>) -> Result<(), Fatal> {
        let mut log_bytes_at_snapshot = self.snapshot_base();
        loop {
            match errands.recv_timeout(limits::HOUSEKEEPING_INTERVAL) {
                Ok(Errand::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Errand::Look) | Err(RecvTimeoutError::Timeout) => {}
            }
            self.watch_space();
            self.compact()?;
            if self.store().checkpoint_due() {
                self.checkpoint()?;
            }
            self.snapshot(&mut log_bytes_at_snapshot);
        }
        self.checkpoint()
    }

    fn store(&self) -> Arc<store::mvcc::Store> {
        let current: &Current = &self.shared.current;
        current.load()
    }

    /// Log bytes written before the next snapshot starts to count them: what is kept now.
    fn snapshot_base(&self) -> u64 {
        self.wal.bytes_written().saturating_sub(self.wal.retained_bytes())
    }

    /// Refuses growth while the disk has room for the log only, and takes it up again.
    fn watch_space(&mut self) {
        let Ok(stat) = rustix::fs::statvfs(&self.data_dir) else { return };
        let free = stat.f_bavail * stat.f_frsize;
        let reserve = (self.disk_reserve)(stat.f_blocks * stat.f_frsize);
        let room = self.wal.room();
        let full = free < reserve || room.spare_failure.is_some();
        let was_full = self.shared.admission.set_disk_full(full);
        let (free_mib, reserve_mib) = (free >> 20, reserve >> 20);
        if full && !was_full {
            tracing::warn!(
                free_mib,
                reserve_mib,
                "disk is nearly full: writes that grow the data are refused; free some space, \
                 delete keys or compact"
            );
        } else if was_full && !full {
            tracing::info!(free_mib, "disk has room again: writes go on");
        }
        if full {
            self.wal.retry_reserve();
        }
    }

    fn compact(&self) -> Result<(), Fatal> {
        let store = self.store();
        while store.compact_step()? {}
        let finished = store.compaction_finished();
        self.compacted.send_if_modified(|known| std::mem::replace(known, finished) != finished);
        Ok(())
    }

    /// The engine must not hold what the log could still lose.
    fn checkpoint(&self) -> Result<(), Fatal> {
        self.store().checkpoint_if(|applied| self.wal.wait_flushed(applied.index))?;
        Ok(())
    }

    fn snapshot(&self, log_bytes_at_snapshot: &mut u64) {
        let live = self.store().sizes().live_bytes;
        let due = self.snapshot_log_bytes.max(2 * live);
        let written = self.wal.bytes_written();
        if written.saturating_sub(*log_bytes_at_snapshot) > due {
            *log_bytes_at_snapshot = written;
            self.request_snapshot.send_modify(|requests| *requests += 1);
        }
        if let Some(purgeable) = self.snapshots.purgeable() {
            let upto = purgeable.index.saturating_sub(limits::LOG_ENTRIES_KEPT);
            self.purge.send_if_modified(|known| {
                let further = upto > *known;
                *known = upto.max(*known);
                further
            });
        }
    }
}
