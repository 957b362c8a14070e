//! Opening the log: read every segment in order, check everything, cut a torn tail, and make
//! sure that what has been read is durable before anything is built on it.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Fatal;
use crate::disk::{Disk, read_full_at};

use super::repair::{self, Ending};
use super::replay::Replay;
use super::scan::{Scan, Stop};
use super::sector::{PAYLOAD, SECTOR, Sector, file_offset};
use super::segment::{BadHeader, Header, SIZE_UNIT, Segment, name, parse_name};
use super::{damaged, segment};

/// Read at a time.
const CHUNK: usize = 1 << 20;
/// A segment in use has records at its very start; this much is looked at.
const PROBE: usize = 64 << 10;

pub(super) struct Recovery {
    pub(super) replay: Replay,
    /// All in use, oldest first; the last is written on at `position`.
    pub(super) segments: VecDeque<Arc<Segment>>,
    pub(super) position: u32,
    /// What the stream holds in the sector of `position`.
    pub(super) tail: Vec<u8>,
    pub(super) spare: Option<Arc<Segment>>,
    /// Files of earlier segments that can be used again.
    pub(super) recycled: Vec<PathBuf>,
    pub(super) salt: u64,
    pub(super) cut_bytes: u64,
    pub(super) created: bool,
}

pub(super) fn recover(disk: &dyn Disk, dir: &Path, segment_bytes: u64) -> Result<Recovery, Fatal> {
    disk.create_dir(dir).map_err(|error| Fatal::io("create directory", dir, error))?;
    let names = disk.list(dir).map_err(|error| Fatal::io("list", dir, error))?;
    // A process that died may have left name changes that are not durable.
    disk.sync_dir(dir).map_err(|error| Fatal::io("sync directory", dir, error))?;
    let sequences: BTreeMap<u32, PathBuf> =
        names.iter().filter_map(|name| Some((parse_name(name)?, dir.join(name)))).collect();
    let temporaries: Vec<PathBuf> =
        names.iter().filter(|name| name.ends_with(".tmp")).map(|name| dir.join(name)).collect();
    if sequences.is_empty() {
        return create(disk, dir, segment_bytes, &temporaries);
    }
    let (run, before) = split_at_gap(sequences);
    let mut recovery = read(disk, dir, run)?;
    if let Some((_, path)) = before.last() {
        // A purge removes from the front; if names were lost out of order, all before the gap
        // had been purged. Replay has checked that no entry it needs is missing.
        tracing::warn!(path = %path.display(), "removing log segments purged earlier");
    }
    for (_, path) in before {
        disk.remove(&path).map_err(|error| Fatal::io("remove", path, error))?;
    }
    recovery.recycled = sweep(disk, &temporaries, recovery.salt, segment_bytes)?;
    Ok(recovery)
}

fn create(
    disk: &dyn Disk,
    dir: &Path,
    segment_bytes: u64,
    temporaries: &[PathBuf],
) -> Result<Recovery, Fatal> {
    for path in temporaries {
        disk.remove(path).map_err(|error| Fatal::io("remove", path, error))?;
    }
    let salt = new_salt();
    let header = Header { salt, sequence: 1, bytes: segment_bytes };
    let segment = segment::prepare(disk, dir, &header, None)
        .map_err(|error| Fatal::io("create log segment", dir.join(name(1)), error))?;
    Ok(Recovery {
        replay: Replay::default(),
        segments: VecDeque::from([Arc::new(segment)]),
        position: 0,
        tail: Vec::new(),
        spare: None,
        recycled: Vec::new(),
        salt,
        cut_bytes: 0,
        created: true,
    })
}

/// Tells this log from any other. Not replicated state, so it need not be deterministic.
fn new_salt() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

type Files = Vec<(u32, PathBuf)>;

/// The last run of consecutive sequences, and what stands before it.
fn split_at_gap(sequences: BTreeMap<u32, PathBuf>) -> (Files, Files) {
    let mut before: Files = sequences.into_iter().collect();
    let consecutive = before.windows(2).rev().take_while(|pair| pair[0].0 + 1 == pair[1].0).count();
    let run = before.split_off(before.len() - 1 - consecutive);
    (run, before)
}

/// Reads a run of segments. The last is written on, or prepared and not yet begun.
fn read(disk: &dyn Disk, dir: &Path, run: Files) -> Result<Recovery, Fatal> {
    let mut replay = Replay::default();
    let mut segments: VecDeque<Arc<Segment>> = VecDeque::new();
    let mut sealed: Option<Ending> = None;
    let count = run.len();
    for (nth, (sequence, path)) in run.iter().enumerate() {
        let opened = open_segment(disk, *sequence, path, segments.back().map(|s| s.key.salt));
        let segment = Arc::new(opened?);
        let ending = replay_segment(&mut replay, &segment)?;
        segments.push_back(Arc::clone(&segment));
        if ending.sealed {
            if nth + 1 == count {
                let missing = dir.join(name(sequence + 1));
                let what = format!("it is missing, but {} was closed", path.display());
                return Err(damaged(&missing, 0, what));
            }
            sealed = Some(ending);
            continue;
        }
        // Nothing is written before all has been found sound.
        let spare = spare_after(disk, &run[nth + 1..], &segment, &ending)?;
        let repair = repair::examine(&segment, &ending)?;
        replay.finish(&segments[0])?;
        if let (None, Some((_, path))) = (&spare, run.get(nth + 1)) {
            disk.remove(path).map_err(|error| Fatal::io("remove", path, error))?;
        }
        if let (Some(before), 0) = (&sealed, ending.offset) {
            // Whether the closing record is durable is known only once a record follows.
            let closed = &segments[segments.len() - 2];
            repair::make_durable(closed, before)?;
        }
        let repaired = repair.carry_out()?;
        return Ok(Recovery {
            replay,
            position: ending.offset,
            tail: repaired.tail,
            salt: segment.key.salt,
            segments,
            spare,
            recycled: Vec::new(),
            cut_bytes: repaired.cut_bytes,
            created: false,
        });
    }
    unreachable!("the last segment of a run returns")
}

fn open_segment(
    disk: &dyn Disk,
    sequence: u32,
    path: &Path,
    salt: Option<u64>,
) -> Result<Segment, Fatal> {
    let io = |error| Fatal::io("open", path, error);
    let file = disk.open(path).map_err(io)?;
    let mut sector = [0; SECTOR];
    let got = read_full_at(&*file, &mut sector, 0).map_err(io)?;
    let header = Header::decode(&sector[..got]).map_err(|bad| match bad {
        BadHeader::Damaged(what) => damaged(path, 0, what),
        BadHeader::Newer(format) => io(std::io::Error::other(format!(
            "the log has format {format}, this program knows {} and older; nothing was changed: \
             start the newer version of kvd again",
            segment::FORMAT
        ))),
    })?;
    if header.sequence != sequence {
        let what = format!("it says it is {}: the file was renamed", name(header.sequence));
        return Err(damaged(path, 0, what));
    }
    if salt.is_some_and(|salt| salt != header.salt) {
        return Err(damaged(path, 0, "it belongs to another log than the segment before"));
    }
    let size = file.size().map_err(io)?;
    if size != header.bytes {
        let what = format!("the file has {size} bytes, its header says {}", header.bytes);
        return Err(damaged(path, size, what));
    }
    if sequence == u32::MAX {
        return Err(damaged(path, 0, "no segment could follow it"));
    }
    // Smaller ones have no room for what a segment begins and ends with.
    if size == 0 || size % SIZE_UNIT != 0 {
        return Err(damaged(path, size, "no segment has this size"));
    }
    Ok(Segment::new(path.to_owned(), &header, file))
}

fn replay_segment(replay: &mut Replay, segment: &Arc<Segment>) -> Result<Ending, Fatal> {
    let mut scan = Scan::new(Arc::clone(segment), 0, CHUNK);
    let mut sealed = false;
    while let Some((decoded, offset)) = scan.next()? {
        sealed = replay
            .apply(decoded, segment, offset)
            .map_err(|what| damaged(&segment.path, file_offset(offset), what))?;
        if sealed {
            break;
        }
    }
    Ok(Ending {
        sealed,
        offset: scan.offset(),
        end: scan.end(),
        stop: scan.stop().unwrap_or(Stop::EndOfFile),
        durable: scan.durable(),
    })
}

/// What may stand behind the segment being written on: one that was prepared and never begun.
/// `None` if there is none, or one that is of no use because its header is damaged.
fn spare_after(
    disk: &dyn Disk,
    rest: &[(u32, PathBuf)],
    segment: &Segment,
    ending: &Ending,
) -> Result<Option<Arc<Segment>>, Fatal> {
    let Some((sequence, path)) = rest.first() else { return Ok(None) };
    let spare = open_segment(disk, *sequence, path, Some(segment.key.salt));
    // The header alone cannot say that nothing was ever written: look for records with the key
    // it must have.
    let used = match &spare {
        Ok(spare) => holds_records(spare)?,
        Err(Fatal::Damaged { .. }) => {
            let header =
                Header { salt: segment.key.salt, sequence: *sequence, bytes: PROBE as u64 };
            let file = disk.open(path).map_err(|error| Fatal::io("open", path, error))?;
            holds_records(&Segment::new(path.clone(), &header, file))?
        }
        Err(_) => return spare.map(|spare| Some(Arc::new(spare))),
    };
    if used || rest.len() > 1 {
        let why = match ending.stop {
            Stop::Bad => "a sector is damaged",
            Stop::Absent => "a sector is missing",
            Stop::Partial | Stop::EndOfFile => "the closing record is missing",
        };
        let what = format!("{why}, and {} goes on", path.display());
        return Err(damaged(&segment.path, file_offset(ending.end), what));
    }
    Ok(spare.ok().map(Arc::new))
}

fn holds_records(segment: &Segment) -> Result<bool, Fatal> {
    let mut buffer = vec![0; PROBE.min(segment.bytes as usize)];
    let got = read_full_at(&*segment.file, &mut buffer, SECTOR as u64)
        .map_err(|error| Fatal::io("read", &segment.path, error))?;
    let mut sectors = buffer[..got].chunks_exact(SECTOR).zip(1..);
    Ok(sectors.any(|(sector, number)| {
        matches!(segment.key.inspect(sector, number), Sector::Current { .. })
    }))
}

/// Keeps files of earlier segments of this log for later use and removes the rest.
fn sweep(
    disk: &dyn Disk,
    temporaries: &[PathBuf],
    salt: u64,
    segment_bytes: u64,
) -> Result<Vec<PathBuf>, Fatal> {
    let mut kept = Vec::new();
    for path in temporaries {
        let io = |error| Fatal::io("open", path, error);
        let file = disk.open(path).map_err(io)?;
        let mut sector = [0; SECTOR];
        let got = read_full_at(&*file, &mut sector, 0).map_err(io)?;
        let size = file.size().map_err(io)?;
        let ours = Header::decode(&sector[..got]).is_ok_and(|header| header.salt == salt);
        let recycled = path.to_string_lossy().contains("recycled-");
        if ours && recycled && size == segment_bytes && kept.len() < super::RECYCLED_MAX {
            kept.push(path.clone());
        } else {
            disk.remove(path).map_err(|error| Fatal::io("remove", path, error))?;
        }
    }
    Ok(kept)
}

const _: () = assert!(PROBE > PAYLOAD);
