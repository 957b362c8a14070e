//! Reading entries: from memory if they are there, else from the segments.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::{Fatal, LogId};

use super::damaged;
use super::record::Record;
use super::scan::Scan;
use super::sector::file_offset;
use super::segment::Segment;
use super::shared::Shared;

/// Read from a segment at a time.
const CHUNK: usize = 64 << 10;

type Entries = Vec<(LogId, Bytes)>;

/// Where to find the first of a range of entries.
enum Source {
    Memory(Entries),
    Disk(Place),
}

/// The segments from a point on, and how far they may be read.
#[derive(Clone)]
struct Place {
    segments: Vec<Arc<Segment>>,
    offset: u32,
    index: u64,
    first: u64,
    end: u64,
}

/// Entries from `first` up to `end` (clipped to the last), at least one if there is any, and no
/// more than one beyond `bytes_max`.
pub(super) fn read(
    shared: &Shared,
    first: u64,
    end: u64,
    bytes_max: usize,
) -> Result<Entries, Fatal> {
    let place = match locate(shared, first, end, bytes_max)? {
        Source::Memory(entries) => return Ok(entries),
        Source::Disk(place) => place,
    };
    match read_segments(place.clone(), bytes_max) {
        Err(Fatal::Damaged { .. }) => {
            // The writer may have been writing the last sector again: look once more while it
            // may not.
            let _rewriting = shared.rewriting.lock().unwrap_or_else(PoisonError::into_inner);
            read_segments(place, bytes_max)
        }
        other => other,
    }
}

fn locate(shared: &Shared, first: u64, end: u64, bytes_max: usize) -> Result<Source, Fatal> {
    let state = shared.lock();
    let end = end.min(state.last.index + 1);
    if first >= end {
        return Ok(Source::Memory(Vec::new()));
    }
    if first <= state.purged.index {
        let what = format!("entry {first} is purged, as all up to {}", state.purged);
        let error = std::io::Error::new(std::io::ErrorKind::NotFound, what);
        return Err(Fatal::io("read", &state.segments[0].path, error));
    }
    let cached = state.cache.first();
    if cached.is_some_and(|cached| cached <= first) {
        return Ok(Source::Memory(state.cache.read(first, end, bytes_max)));
    }
    let point = state.points.find(first).ok_or_else(|| {
        let what = format!("no place is known for entry {first}");
        damaged(&state.segments[0].path, 0, what)
    })?;
    let after = state.segments.partition_point(|segment| segment.sequence() < point.sequence);
    Ok(Source::Disk(Place {
        segments: state.segments.range(after..).cloned().collect(),
        offset: point.offset,
        index: point.index,
        first,
        end: end.min(cached.unwrap_or(end)).min(state.points.jump_after(first).unwrap_or(end)),
    }))
}

fn read_segments(place: Place, bytes_max: usize) -> Result<Entries, Fatal> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let mut expected = place.index;
    let mut offset = place.offset;
    for segment in place.segments {
        let mut scan = Scan::new(segment, offset, CHUNK);
        offset = 0;
        let path = scan.segment.path.clone();
        loop {
            let Some((decoded, at)) = scan.next()? else {
                let what = format!("entry {expected} should stand here");
                return Err(damaged(&path, file_offset(scan.end()), what));
            };
            match decoded.record {
                Record::Entry { id, payload } => {
                    if id.index != expected {
                        let what = format!("entry {expected} should stand here, not {id}");
                        return Err(damaged(&path, file_offset(at), what));
                    }
                    expected += 1;
                    if id.index >= place.first {
                        bytes += payload.len();
                        if bytes > bytes_max && !entries.is_empty() {
                            return Ok(entries);
                        }
                        entries.push((id, Bytes::copy_from_slice(payload)));
                    }
                    if expected == place.end {
                        return Ok(entries);
                    }
                }
                Record::Seal => break,
                _ => {}
            }
        }
    }
    unreachable!("the last segment has no closing record while it is the last")
}
