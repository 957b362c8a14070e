//! Work that nobody waits for: compaction, checkpoints, snapshots, free space.
//!
//! One thread, `kvd-keeper`. It looks around every half second, and when it is poked, as it is once
//! a checkpoint is due. It writes only when rows or log bytes have gathered: an idle member leaves
//! its card alone.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use store::Fatal;
use store::wal::Wal;
use tokio::sync::watch;

use crate::limits;
use crate::metrics::METRICS;
use crate::poke::Errands;
use crate::replica::{Current, Shared};
use crate::snapshots::Snapshots;
use crate::space::Disk;

pub struct Housekeeper {
    pub wal: Wal,
    pub shared: Arc<Shared>,
    pub snapshots: Arc<Snapshots>,
    /// Free bytes that only the log may use.
    pub disk_reserve: Box<dyn Fn(u64) -> u64 + Send>,
    pub snapshot_log_bytes: u64,
    pub log_retention_bytes: u64,
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
            if let Err(fatal) = self.run(&errands) {
                crate::stop::fatal(&fatal);
            }
        })
    }

    fn run(mut self, errands: &Errands) -> Result<(), Fatal> {
        let mut snapshots = SnapshotClock {
            carried: self.carried(),
            compacted: Some(self.store().compaction_finished()),
            ..Default::default()
        };
        let mut pause = limits::HOUSEKEEPING_INTERVAL;
        self.watch_space();
        while errands.wait(pause) {
            self.watch_space();
            pause = match self.compact()? {
                true => Duration::ZERO,
                false => limits::HOUSEKEEPING_INTERVAL,
            };
            if self.store().checkpoint_due() {
                self.checkpoint()?;
            }
            self.shared.current.end_round();
            self.snapshot(&mut snapshots);
            self.purge();
        }
        self.checkpoint()
    }

    fn store(&self) -> Arc<store::mvcc::Store> {
        let current: &Current = &self.shared.current;
        current.load()
    }

    /// Log bytes that earlier runs of this member left behind its newest snapshot file.
    fn carried(&self) -> u64 {
        let newest = self.snapshots.newest(self.store().applied());
        self.wal.bytes_after(newest.map_or(0, |newest| newest.applied.index))
    }

    /// Refuses growth while the disk has room for the log only, and takes it up again.
    fn watch_space(&mut self) {
        let Some(Disk { free, all }) = self.snapshots.space().disk() else { return };
        let reserve = (self.disk_reserve)(all);
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

    /// Removes what was compacted, until that is done or a checkpoint is overdue: rows wait for
    /// one in memory, and when they are too many, writes are refused. True when there is more to do.
    fn compact(&self) -> Result<bool, Fatal> {
        let store = self.store();
        let overdue = self.shared.options.recent_bytes_max * limits::RECENT_PERCENT_OVERDUE / 100;
        let more = store.compact(overdue)?;
        let finished = store.compaction_finished();
        self.compacted.send_if_modified(|known| std::mem::replace(known, finished) != finished);
        Ok(more)
    }

    /// The engine must not hold what the log could still lose. On a full disk the rows stay in
    /// memory and the log: a write of the engine that fails would end the process.
    fn checkpoint(&self) -> Result<(), Fatal> {
        let sizes = self.store().sizes();
        // Removing rows rewrites their neighbours; how many is known only afterwards.
        let neighbours = (sizes.live_bytes + sizes.history_bytes).min(2 * self.wal.segment_bytes());
        if !self.snapshots.space().has_room(2 * sizes.recent_bytes + neighbours) {
            return Ok(());
        }
        let began = Instant::now();
        self.store().checkpoint_if(|applied| self.wal.wait_flushed(applied.index))?;
        METRICS.disk.checkpoints.took(began.elapsed());
        Ok(())
    }

    /// Writes a snapshot file when one is due, beside everything else, and tells consensus of it.
    fn snapshot(&self, clock: &mut SnapshotClock) {
        if let Some(writer) = clock.writer.take_if(|writer| writer.is_finished()) {
            // A panic ends the process, so there is always an answer.
            if writer.join().unwrap_or(true) {
                self.request_snapshot.send_modify(|requests| *requests += 1);
            } else {
                clock.log_bytes = clock.log_bytes_before;
                clock.compacted = None;
                clock.not_before = Some(Instant::now() + limits::SNAPSHOT_RETRY_INTERVAL);
            }
        }
        let written = clock.carried + self.wal.bytes_written();
        let compacted = Some(self.store().compaction_finished());
        let sizes = self.store().sizes();
        let due = self.snapshot_log_bytes.max(2 * (sizes.live_bytes + sizes.history_bytes));
        // On a full disk, what a compaction removed gives room only once the log is shorter.
        let due = written.saturating_sub(clock.log_bytes) > due
            || (self.shared.admission.disk_full() && compacted != clock.compacted);
        let waits = clock.not_before.is_some_and(|until| Instant::now() < until);
        if clock.writer.is_some() || waits || !due {
            return;
        }
        let (store, snapshots) = (self.store(), self.snapshots.clone());
        let write = move || match snapshots.prepare(&store) {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!("no room for a snapshot file: the log cannot be shortened");
                false
            }
            Err(fatal) => crate::stop::fatal(&fatal),
        };
        match std::thread::Builder::new().name("kvd-snapshot".into()).spawn(write) {
            Ok(writer) => {
                clock.writer = Some(writer);
                clock.compacted = compacted;
                clock.log_bytes_before = std::mem::replace(&mut clock.log_bytes, written);
            }
            Err(error) => tracing::warn!(%error, "cannot start the thread that writes snapshots"),
        }
    }

    /// Two snapshot files and some of the log before them are kept, for a file that turns out to be damaged
    /// and for members that are late; on a full disk, the newest file has to do.
    fn purge(&self) {
        let full = self.shared.admission.disk_full();
        let upto = match full {
            true => {
                self.snapshots.newest(self.store().applied()).map(|newest| newest.applied.index)
            }
            false => self
                .snapshots
                .purgeable()
                .map(|older| self.wal.entry_before(older.index, self.log_retention_bytes)),
        };
        let Some(upto) = upto else { return };
        self.purge.send_if_modified(|known| {
            let further = upto > *known;
            *known = upto.max(*known);
            // Consensus may not have heard of the newest file yet.
            further || full
        });
    }
}

/// When the next snapshot file is due.
#[derive(Default)]
struct SnapshotClock {
    /// Log bytes of earlier runs. Without them a member that is started often would never be due.
    carried: u64,
    /// Log bytes until the last one began, and until the one before that; carried ones count.
    log_bytes: u64,
    log_bytes_before: u64,
    /// The compaction that was complete when the last one began.
    compacted: Option<i64>,
    /// Says whether there was room.
    writer: Option<JoinHandle<bool>>,
    not_before: Option<Instant>,
}
