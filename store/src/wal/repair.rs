//! Decides whether the end of the log is torn or damaged, and makes a torn end clean.

use crate::Fatal;
use crate::disk::{read_full_at, write_all_at};

use super::damaged;
use super::scan::Stop;
use super::sector::{PAYLOAD, SECTOR, Sector, file_offset, sector_of};
use super::segment::Segment;

const CHUNK: usize = 1 << 20;

/// Where and why the stream of a segment ends.
pub(super) struct Ending {
    pub(super) sealed: bool,
    /// End of the last whole record.
    pub(super) offset: u32,
    /// End of what can be read.
    pub(super) end: u32,
    pub(super) stop: Stop,
    /// The mark of the last sector read: where the last group begins.
    pub(super) durable: u32,
}

pub(super) struct Repaired {
    pub(super) tail: Vec<u8>,
    pub(super) cut_bytes: u64,
}

/// A torn end, or a clean one, and what is to be done about it.
pub(super) struct Repair<'a> {
    segment: &'a Segment,
    ending: &'a Ending,
    behind: Behind,
}

/// Judges the end of the segment that is written on. Changes nothing.
pub(super) fn examine<'a>(segment: &'a Segment, ending: &'a Ending) -> Result<Repair<'a>, Fatal> {
    let behind = look_behind(segment, ending)?;
    judge(segment, ending, &behind)?;
    Ok(Repair { segment, ending, behind })
}

impl Repair<'_> {
    /// Removes what a torn group left behind and makes the rest durable. Safe to be interrupted
    /// and repeated: marks never move forward.
    pub(super) fn carry_out(self) -> Result<Repaired, Fatal> {
        let Self { segment, ending, behind } = self;
        for number in &behind.unwanted {
            let position = u64::from(*number) * SECTOR as u64;
            write_all_at(&*segment.file, &[0; SECTOR], position)
                .map_err(|error| Fatal::io("write", &segment.path, error))?;
        }
        let tail = make_durable(segment, ending)?;
        let cut_bytes = u64::from(ending.end - ending.offset) + behind.bytes;
        if cut_bytes > 0 {
            tracing::warn!(
                path = %segment.path.display(), offset = file_offset(ending.offset), cut_bytes,
                "cut an unfinished write off the end of the log; nothing in it was acknowledged"
            );
        }
        Ok(Repaired { tail, cut_bytes })
    }
}

fn judge(segment: &Segment, ending: &Ending, behind: &Behind) -> Result<(), Fatal> {
    let at = file_offset(ending.end);
    let durable = ending.durable.max(behind.durable);
    if durable > ending.offset {
        let place = file_offset(durable);
        let what = format!(
            "a record was durable here: what stands behind was written when everything before \
             offset {place} was on disk"
        );
        return Err(damaged(&segment.path, at, what));
    }
    match ending.stop {
        Stop::Bad => {
            let what = "a sector is neither whole nor untouched, which no interrupted write does";
            Err(damaged(&segment.path, at, what))
        }
        Stop::Partial if ending.end > ending.offset => {
            Err(damaged(&segment.path, file_offset(ending.offset), "a record ends too early"))
        }
        _ => Ok(()),
    }
}

/// What stands behind the end.
#[derive(Default)]
struct Behind {
    /// The furthest mark of any sector of this segment.
    durable: u32,
    /// Sectors that a later reader could take for a part of the log.
    unwanted: Vec<u32>,
    /// Bytes of the stream in those beyond `Ending::end`.
    bytes: u64,
}

fn look_behind(segment: &Segment, ending: &Ending) -> Result<Behind, Fatal> {
    let mut behind = Behind::default();
    let mut number = kept(ending.offset) + 1;
    let stopped = sector_of(ending.end);
    let mut buffer = vec![0; CHUNK.min(segment.bytes as usize)];
    loop {
        let got = read_full_at(&*segment.file, &mut buffer, u64::from(number) * SECTOR as u64)
            .map_err(|error| Fatal::io("read", &segment.path, error))?;
        if got < SECTOR {
            return Ok(behind);
        }
        for sector in buffer[..got].chunks_exact(SECTOR) {
            match segment.key.inspect(sector, number) {
                Sector::Absent => {}
                Sector::Bad => behind.unwanted.push(number),
                Sector::Current { durable, fill } => {
                    behind.durable = behind.durable.max(durable);
                    behind.unwanted.push(number);
                    behind.bytes += if number >= stopped { u64::from(fill) } else { 0 };
                }
            }
            number += 1;
        }
    }
}

/// The last sector that holds a part of a stream that ends at `offset`; 0 (the header) if none.
fn kept(offset: u32) -> u32 {
    offset.div_ceil(PAYLOAD as u32)
}

/// Writes the last group again and syncs. What was read may have come from memory only: the
/// process before may have died between write and sync, or of a sync that failed, after which
/// the kernel takes the pages for clean. Returns what the stream holds in the last sector if
/// that is not full.
pub(super) fn make_durable(segment: &Segment, ending: &Ending) -> Result<Vec<u8>, Fatal> {
    let last = kept(ending.offset);
    let mut tail = Vec::new();
    if last > 0 {
        let first = sector_of(ending.durable).min(last);
        let mut sectors = vec![0; (last - first + 1) as usize * SECTOR];
        let position = u64::from(first) * SECTOR as u64;
        read_full_at(&*segment.file, &mut sectors, position)
            .map_err(|error| Fatal::io("read", &segment.path, error))?;
        let fill = ending.offset as usize % PAYLOAD;
        if fill > 0 {
            let begin = sectors.len() - SECTOR;
            let sector = &mut sectors[begin..];
            sector[fill..PAYLOAD].fill(0);
            segment.key.stamp(sector, last, ending.durable, fill as u16);
            tail.extend_from_slice(&sector[..fill]);
        }
        write_all_at(&*segment.file, &sectors, position)
            .map_err(|error| Fatal::io("write", &segment.path, error))?;
    }
    segment.file.sync().map_err(|error| Fatal::io("sync", &segment.path, error))?;
    Ok(tail)
}
