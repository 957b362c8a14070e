//! The thread `kvd-log`: takes everything queued, writes it with one call, syncs once, and
//! reports, newest first. It stops at the first error.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::disk::write_all_at;
use crate::{Fatal, LogId};

use super::index::{Point, PointMaker};
use super::record::{HEADER, Record, SEAL, State};
use super::sector::{Frames, LastSector, PAYLOAD, SECTOR};
use super::segment::{SIZE_UNIT, Segment};
use super::shared::{Failed, Op, Shared};

/// A group larger than this is written in pieces, and the buffer never stays larger.
const BUFFER_BYTES_MAX: usize = 4 << 20;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) segment: Arc<Segment>,
    pub(super) frames: Frames,
    /// Where the records written so far lead to.
    pub(super) state: State,
    /// Checksum of the record that closed the segment before.
    pub(super) chain: u32,
    pub(super) fsync: bool,
    pub(super) on_fatal: Box<dyn Fn(Fatal) + Send + Sync>,
    pub(super) group: Group,
}

/// What a group adds to what is known about the log, once it is durable.
#[derive(Default)]
pub(super) struct Group {
    ops: Vec<Op>,
    points: Vec<Point>,
    maker: PointMaker,
    /// Segments may have become unnecessary.
    review: bool,
    record_bytes: u64,
    bytes: u64,
    writes: u64,
    segments: u64,
    segments_recycled: u64,
    flushes: Vec<Duration>,
}

impl Group {
    /// Goes on where replay ended: the next entry may not follow the last on disk.
    pub(super) fn after(mut maker: PointMaker, position: u32) -> Self {
        if position == 0 {
            maker.begin_segment();
        }
        Self { maker, ..Self::default() }
    }
}

impl Writer {
    pub(super) fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.shared));
        while let Some(committed) = self.next_group() {
            match self.write_group(committed) {
                Ok(()) => self.publish(),
                Err(fatal) => return self.fail(fatal),
            }
        }
    }

    /// Waits for something to write. `None` when the log is closed and all is written.
    fn next_group(&mut self) -> Option<Option<LogId>> {
        let mut state = self.shared.lock();
        while state.queue.is_empty() && !state.closing {
            state.writer_waits = true;
            state = self.shared.work.wait(state).expect("a panic while locked ends the process");
        }
        state.writer_waits = false;
        if state.queue.is_empty() && state.committed.is_none() {
            return None;
        }
        std::mem::swap(&mut state.queue, &mut self.group.ops);
        state.queued_bytes = 0;
        state.flushed_max = u64::MAX;
        Some(state.committed.take())
    }

    fn write_group(&mut self, committed: Option<LogId>) -> Result<(), Fatal> {
        self.frames.begin_group();
        if self.frames.position() == 0 {
            self.begin_segment();
        }
        let ops = std::mem::take(&mut self.group.ops);
        let result = ops.iter().try_for_each(|op| self.encode(op));
        self.group.ops = ops;
        result?;
        if let Some(id) = committed {
            self.put(&Record::Committed(id))?;
            self.state.committed = id;
        }
        self.write(LastSector::Included)?;
        self.sync()
    }

    fn encode(&mut self, op: &Op) -> Result<(), Fatal> {
        match op {
            Op::Entries(entries, _) => {
                for (id, payload) in entries {
                    self.entry(*id, payload)?;
                }
            }
            Op::Vote(vote, _) => {
                self.put(&Record::Vote(vote))?;
                self.state.vote = Some(vote.to_vec());
            }
            Op::Truncate(id) => {
                self.put(&Record::Truncate(*id))?;
                self.state.last = *id;
                self.group.maker.interrupt();
                self.group.points.retain(|point| point.index <= id.index);
            }
            Op::Purge(id) => {
                self.put(&Record::Purge(*id))?;
                self.state.purged = *id;
                if id.index >= self.state.last.index {
                    self.state.last = *id;
                    self.group.maker.interrupt();
                }
                self.group.review = true;
            }
        }
        Ok(())
    }

    fn entry(&mut self, id: LogId, payload: &Bytes) -> Result<(), Fatal> {
        assert_eq!(id.index, self.state.last.index + 1, "the log has no holes");
        let offset = self.put(&Record::Entry { id, payload })?;
        self.state.last = id;
        self.segment.saw_index(id.index);
        let point = self.group.maker.point(id.index, self.segment.sequence(), offset);
        self.group.points.extend(point);
        Ok(())
    }

    /// Appends a record, in the next segment if this one is full. Returns where it begins.
    fn put(&mut self, record: &Record<'_>) -> Result<u32, Fatal> {
        let size = record.size();
        let used = self.frames.position() as usize;
        if used + size + SEAL > self.segment.capacity() as usize {
            self.roll(size)?;
        }
        if self.frames.buffered() + size > BUFFER_BYTES_MAX {
            self.write(LastSector::LeftOut)?;
        }
        let offset = self.frames.position();
        record.put(&self.segment.key, &mut self.frames);
        self.group.record_bytes += size as u64;
        Ok(offset)
    }

    /// Closes this segment and begins the next. The next exists durably before this one is
    /// closed, and this one is closed durably before the next gets its first record.
    fn roll(&mut self, size: usize) -> Result<(), Fatal> {
        let opening = HEADER + 64 + self.state.vote.as_ref().map_or(0, Vec::len);
        let sectors = 2 + (opening + size + SEAL).div_ceil(PAYLOAD);
        let bytes_min = ((sectors * SECTOR) as u64).next_multiple_of(SIZE_UNIT);
        let next = self.shared.reserve.take(bytes_min).map_err(|error| {
            Fatal::io("create the log segment after", &self.segment.path, error)
        })?;
        self.chain = Record::Seal.put(&self.segment.key, &mut self.frames);
        self.write(LastSector::Included)?;
        self.sync()?;
        self.shared.reserve.taken();
        self.segment = next;
        self.frames.restart();
        self.group.maker.begin_segment();
        self.group.segments += 1;
        self.group.segments_recycled += u64::from(self.segment.recycled);
        self.group.review = true;
        self.begin_segment();
        self.shared.lock().segments.push_back(Arc::clone(&self.segment));
        Ok(())
    }

    fn begin_segment(&mut self) {
        let start = Record::Start { chain: self.chain, state: Box::new(self.state.clone()) };
        start.put(&self.segment.key, &mut self.frames);
    }

    fn write(&mut self, last: LastSector) -> Result<(), Fatal> {
        let (bytes, offset) = self.frames.stamped(&self.segment.key, last);
        if !bytes.is_empty() {
            let rewriting = self.shared.rewriting.lock().expect("nothing panics while it is held");
            let result = write_all_at(&*self.segment.file, bytes, offset);
            drop(rewriting);
            result.map_err(|error| Fatal::io("write", &self.segment.path, error))?;
            self.group.bytes += bytes.len() as u64;
            self.group.writes += 1;
        }
        self.frames.written(BUFFER_BYTES_MAX);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the log measures its disk; no state sees it")]
    fn sync(&mut self) -> Result<(), Fatal> {
        if self.fsync {
            let begin = Instant::now();
            let result = self.segment.file.sync();
            self.group.flushes.push(begin.elapsed());
            result.map_err(|error| Fatal::io("sync", &self.segment.path, error))?;
        }
        Ok(())
    }

    fn publish(&mut self) {
        let group = &mut self.group;
        let mut state = self.shared.lock();
        let flushed_max = state.flushed_max;
        state.flushed = self.state.last.index.min(flushed_max);
        for point in group.points.drain(..).filter(|point| point.index <= flushed_max) {
            state.points.push(point);
        }
        let flushed = state.flushed;
        state.cache.evict(flushed);
        state.position = self.frames.position();
        state.record_bytes += std::mem::take(&mut group.record_bytes);
        state.stats.writes += std::mem::take(&mut group.writes);
        state.stats.bytes += std::mem::take(&mut group.bytes);
        state.stats.segments += std::mem::take(&mut group.segments);
        state.stats.segments_recycled += std::mem::take(&mut group.segments_recycled);
        state.stats.groups += 1;
        for took in group.flushes.drain(..) {
            state.stats.flushes += 1;
            state.stats.flush_latency.record(took);
        }
        let waiters = state.flush_waiters;
        drop(state);
        if waiters > 0 {
            self.shared.flushed.notify_all();
        }
        for op in group.ops.drain(..).rev() {
            op.complete(Ok(()));
        }
        // A burst must not pin its memory for ever.
        group.ops.shrink_to(4096);
        if std::mem::take(&mut group.review) {
            self.shared.drop_purged(self.state.purged);
        }
    }

    /// Nothing is retried: after a failed sync the kernel may have dropped what was written.
    fn fail(self, fatal: Fatal) {
        let kind = match &fatal {
            Fatal::Io { source, .. } => source.kind(),
            _ => std::io::ErrorKind::Other,
        };
        let failed = Failed { kind, message: format!("the log failed: {fatal}") };
        (self.on_fatal)(fatal);
        let mut state = self.shared.lock();
        state.failed = Some(failed.clone());
        let queue = std::mem::take(&mut state.queue);
        state.queued_bytes = 0;
        drop(state);
        // The next segment is of no use any more.
        self.shared.reserve.stop();
        for op in queue.into_iter().rev().chain(self.group.ops.into_iter().rev()) {
            op.complete(Err(failed.to_error()));
        }
    }
}

/// However the writer ends: whoever waits for it waits in vain.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.0.flushed.notify_all();
    }
}
