//! Walks the records of one segment from any record's start.

use std::sync::Arc;

use crate::Fatal;
use crate::disk::read_full_at;

use super::damaged;
use super::record::{Decoded, decode, measure};
use super::sector::{PAYLOAD, SECTOR, Sector, file_offset, sector_of};
use super::segment::Segment;

/// Why the stream goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The last sector is not full: the regular end.
    Partial,
    /// This sector was never written.
    Absent,
    /// This sector is neither written by us nor untouched.
    Bad,
    EndOfFile,
}

pub(super) struct Scan {
    pub(super) segment: Arc<Segment>,
    raw: Vec<u8>,
    /// The stream from `base` on.
    stream: Vec<u8>,
    base: u32,
    used: usize,
    /// The next sector to read.
    next: u32,
    stop: Option<Stop>,
    /// The `durable` mark of the last sector taken.
    durable: u32,
}

impl Scan {
    /// `offset` is where a record begins, `chunk` how many bytes to read at a time.
    pub(super) fn new(segment: Arc<Segment>, offset: u32, chunk: usize) -> Self {
        let next = sector_of(offset);
        let base = (next - 1) * PAYLOAD as u32;
        let used = (offset - base) as usize;
        let chunk = chunk.min(segment.bytes as usize);
        let raw = vec![0; chunk / SECTOR * SECTOR];
        Self { segment, raw, stream: Vec::new(), base, used, next, stop: None, durable: 0 }
    }

    /// The next record and its offset; `None` where the stream ends, for the reason in `stop`.
    pub(super) fn next(&mut self) -> Result<Option<(Decoded<'_>, u32)>, Fatal> {
        // What is left may be less than one record; measuring it does not borrow it.
        let size = loop {
            let rest = self.stream.get(self.used..).unwrap_or_default();
            match measure(rest) {
                Ok(Some(size)) => break size,
                Ok(None) if self.stop.is_some() => return Ok(None),
                Ok(None) => self.fill()?,
                Err(what) => return Err(self.damaged(what)),
            }
        };
        let (begin, offset) = (self.used, self.offset());
        self.used += size;
        match decode(&self.segment.key, &self.stream[begin..self.used], offset) {
            Ok(decoded) => Ok(Some((decoded, offset))),
            Err(what) => {
                self.used = begin;
                Err(self.damaged(what))
            }
        }
    }

    fn damaged(&self, what: String) -> Fatal {
        damaged(&self.segment.path, file_offset(self.offset()), what)
    }

    /// Where the next record begins, or would.
    pub(super) fn offset(&self) -> u32 {
        self.base + self.used as u32
    }

    /// End of what could be read; beyond `offset` if a record is incomplete.
    pub(super) fn end(&self) -> u32 {
        self.base + self.stream.len() as u32
    }

    pub(super) fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Everything before this offset was durable when the last sector taken was written.
    pub(super) fn durable(&self) -> u32 {
        self.durable
    }

    fn fill(&mut self) -> Result<(), Fatal> {
        // Keeps what is left of the current sector on, so that `base` stays at a sector.
        let drop = self.used / PAYLOAD * PAYLOAD;
        let drop = drop.min(self.stream.len() / PAYLOAD * PAYLOAD);
        self.stream.drain(..drop);
        self.base += drop as u32;
        self.used -= drop;
        let position = u64::from(self.next) * SECTOR as u64;
        let left = self.segment.bytes.saturating_sub(position);
        let want = self.raw.len().min(left as usize);
        let got = read_full_at(&*self.segment.file, &mut self.raw[..want], position)
            .map_err(|error| Fatal::io("read", &self.segment.path, error))?;
        if got < SECTOR {
            self.stop = Some(Stop::EndOfFile);
        }
        for sector in self.raw[..got].chunks_exact(SECTOR) {
            match self.segment.key.inspect(sector, self.next) {
                Sector::Current { durable, fill } => {
                    self.durable = durable;
                    self.stream.extend_from_slice(&sector[..usize::from(fill)]);
                    self.next += 1;
                    if usize::from(fill) < PAYLOAD {
                        self.stop = Some(Stop::Partial);
                    }
                }
                Sector::Absent => self.stop = Some(Stop::Absent),
                Sector::Bad => self.stop = Some(Stop::Bad),
            }
            if self.stop.is_some() {
                break;
            }
        }
        Ok(())
    }
}
